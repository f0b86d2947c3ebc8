//! Builds the XDP program that this crate embeds.
fn main() {
    bpf_builder::build("lb-ebpf", "naru-xdp");
}
