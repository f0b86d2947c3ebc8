fn main() {
    bpf_builder::build("lb-tests-bpf", "lab-xdp");
}
