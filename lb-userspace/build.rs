fn main() {
    bpf_builder::build("lb-ebpf", "naru-xdp");
}
