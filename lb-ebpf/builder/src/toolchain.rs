//! Finds what builds BPF: a compiler with `core` for the target, and a linker of the same LLVM.
//!
//! It never installs; each error is one line that names what is missing and the command that gets it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The rustup toolchain used where the distribution has no compiler for BPF.
pub const NIGHTLY: &str = "nightly-2026-05-19";
pub const LINKER_VERSION: &str = "0.13.0";
/// The linker reads the compiler's bitcode, so both are of this LLVM.
pub const LLVM_MAJOR: &str = "22";

pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: PathBuf,
}

pub struct Compiler {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    /// `core` is compiled from source with each program.
    pub build_std: bool,
}

pub fn find() -> Result<Toolchain, String> {
    if cfg!(target_endian = "big") {
        return Err("big-endian hosts are not supported: the BPF program is built for little-endian ones".into());
    }
    let compiler = find_compiler().ok_or("no compiler for BPF found: run `cargo xtask setup`")?;
    let linker = find_linker(&workspace()?).ok_or("bpf-linker not found: run `cargo xtask setup`")?;
    Ok(Toolchain { compiler, linker })
}

/// Debian's, which has `core` for the target ready, or else rustup's, which compiles it.
pub fn find_compiler() -> Option<Compiler> {
    let debian = compiler_below(Path::new("/usr"), false);
    debian.or_else(|| compiler_below(&rustup_sysroot()?, true))
}

/// The project's own, or else the first of `PATH`.
pub fn find_linker(workspace: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = vec![workspace.join(".tools/bin")];
    candidates.extend(env::split_paths(&path));
    candidates
        .into_iter()
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file())
}

/// The workspace's root, from wherever in it cargo or a shell stands.
pub fn workspace() -> Result<PathBuf, String> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => env::current_dir().map_err(|error| format!("read the current folder: {error}"))?,
    };
    let root = start.ancestors().find(|folder| folder.join("lb-ebpf/builder").is_dir());
    root.map(Path::to_owned)
        .ok_or_else(|| format!("{} is not inside the Naru workspace", start.display()))
}

fn compiler_below(sysroot: &Path, build_std: bool) -> Option<Compiler> {
    let compiler = Compiler {
        cargo: sysroot.join("bin/cargo"),
        rustc: sysroot.join("bin/rustc"),
        build_std,
    };
    let core = match build_std {
        true => sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
        false => has_core(&sysroot.join("lib/rustlib").join(crate::TARGET).join("lib")),
    };
    let llvm = format!("LLVM version: {LLVM_MAJOR}.");
    (core && compiler.cargo.is_file() && output(Command::new(&compiler.rustc).arg("-vV"))?.contains(&llvm))
        .then_some(compiler)
}

fn has_core(folder: &Path) -> bool {
    let Ok(files) = fs::read_dir(folder) else { return false };
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

fn rustup_sysroot() -> Option<PathBuf> {
    let mut rustup = Command::new("rustup");
    // A look must not turn into a download.
    rustup
        .args(["run", NIGHTLY, "rustc", "--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    output(&mut rustup).map(|sysroot| PathBuf::from(sysroot.trim()))
}

fn output(command: &mut Command) -> Option<String> {
    // rustup's cargo points these at its own toolchain.
    let output = command
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
