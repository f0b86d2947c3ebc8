//! Gets what builds the XDP program: a compiler for BPF, and a linker of the same LLVM.
//!
//! What is there is used; else Debian's packages, which are the smaller download, or rustup. The linker is always
//! built from its crate, into `.tools`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bpf_builder::{Compiler, LINKER_VERSION, LLVM_MAJOR, NIGHTLY, find_compiler, find_linker};

use crate::workspace::{cargo, has_command, root, tools};
use crate::{apt, progress};

const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
const RUSTUP_LIMIT: Duration = Duration::from_secs(300);
const LINKER_LIMIT: Duration = Duration::from_secs(1800);

/// The command: as `ensure`, and says what there is.
pub fn run() -> Result<()> {
    let (compiler, linker) = ensure()?;
    let source = if compiler.build_std {
        "with core compiled from source"
    } else {
        "with core for BPF"
    };
    println!(
        "compiler  {} ({}), {source}",
        compiler.rustc.display(),
        version(&compiler.rustc)
    );
    println!("linker    {} ({})", linker.display(), version(&linker));
    Ok(())
}

/// Silent where everything is there.
pub fn ensure() -> Result<(Compiler, PathBuf)> {
    let compiler = match find_compiler() {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    let linker = match find_linker(root()) {
        Some(linker) => linker,
        None => install_linker()?,
    };
    Ok((compiler, linker))
}

fn install_compiler() -> Result<Compiler> {
    let debian = apt::is_here() && apt::install(&DEBIAN_COMPILER, "to compile for BPF").is_ok();
    if !debian && has_command("rustup") {
        let mut rustup = Command::new("rustup");
        rustup.args([
            "toolchain",
            "install",
            NIGHTLY,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]);
        rustup.arg("--no-self-update").env_remove("RUSTUP_TOOLCHAIN");
        // A closed network is no surprise; what follows says what to do.
        let _ = progress::step(&format!("installing {NIGHTLY} with rustup"), RUSTUP_LIMIT, &mut rustup);
    }
    find_compiler().with_context(|| {
        let debian = DEBIAN_COMPILER.join(" ");
        format!("no compiler for BPF: install Debian's {debian}, or rustup's {NIGHTLY} with rust-src")
    })
}

fn install_linker() -> Result<PathBuf> {
    let llvm = match find_llvm() {
        Some(llvm) => llvm,
        None => install_llvm()?,
    };
    let mut install = cargo();
    install.args([
        "install",
        "bpf-linker",
        "--version",
        LINKER_VERSION,
        "--locked",
        "--no-default-features",
    ]);
    install
        .args(["--features", &format!("llvm-{LLVM_MAJOR}"), "--root"])
        .arg(tools());
    // Its features ask for LLVM where LLVM_PREFIX points and nowhere else.
    install.env("LLVM_PREFIX", llvm).env_remove("CARGO_TARGET_DIR");
    progress::step(
        &format!("building bpf-linker {LINKER_VERSION}"),
        LINKER_LIMIT,
        &mut install,
    )?;
    find_linker(root()).context("find the bpf-linker just built")
}

fn find_llvm() -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}"));
    let llvm = env::var_os("LLVM_PREFIX").map_or(debian, PathBuf::from);
    let packages = llvm_packages();
    let whole = !apt::is_here() || apt::missing(&packages.each_ref().map(String::as_str)).is_empty();
    (whole && llvm.join("bin/llvm-config").is_file()).then_some(llvm)
}

fn install_llvm() -> Result<PathBuf> {
    let packages = llvm_packages();
    if apt::is_here() {
        let missing = apt::missing(&packages.each_ref().map(String::as_str));
        apt::install(&missing, "to build bpf-linker")
            .with_context(|| format!("bpf-linker needs LLVM {LLVM_MAJOR}: install {}", missing.join(" ")))?;
    }
    match find_llvm() {
        Some(llvm) => Ok(llvm),
        None => bail!("bpf-linker needs LLVM {LLVM_MAJOR} with its headers: install it and set LLVM_PREFIX"),
    }
}

fn llvm_packages() -> [String; 4] {
    let of_llvm = |name: &str| name.replace("NN", LLVM_MAJOR);
    ["llvm-NN-dev", "libpolly-NN-dev", "zlib1g-dev", "libzstd-dev"].map(of_llvm)
}

fn version(tool: &Path) -> String {
    let output = Command::new(tool)
        .arg("--version")
        .env_remove("LD_LIBRARY_PATH")
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| error.to_string())
}
