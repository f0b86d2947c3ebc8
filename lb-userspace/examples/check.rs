fn main() -> std::process::ExitCode {
    let a: Vec<String> = std::env::args().collect();
    lb_userspace::cli::check::run(a[1].as_ref(), a.len() > 2)
}
