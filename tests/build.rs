//! Builds the BPF programs of the lab and the bench, which this crate embeds.
fn main() {
    bpf_builder::build("lb-tests-bpf", "lab-xdp");
}
