//! Builds a BPF program from a build script, with whichever of the two known compilers this machine has.
//!
//! It only looks and builds: it never downloads or installs anything, that is for `cargo xtask setup`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

mod toolchain;

pub use toolchain::{
    Compiler, LINKER_VERSION, LLVM_MAJOR, NIGHTLY, Toolchain, find, find_compiler, find_linker, workspace,
};

const TARGET: &str = "bpfel-unknown-none";

/// Builds `bin` of `package` and leaves the object at `$OUT_DIR/<bin>`. For build scripts: reports to cargo, and ends
/// the process when that fails.
pub fn build(package: &str, bin: &str) {
    match try_build(package, bin) {
        Ok(()) => {}
        Err(Failure::Setup(line)) => println!("cargo::error={line}"),
        // What the compiler said stands on stderr, which cargo shows when a build script fails.
        Err(Failure::Compiler) => exit(1),
    }
}

enum Failure {
    /// One line for the person at the keyboard.
    Setup(String),
    Compiler,
}

fn try_build(package: &str, bin: &str) -> Result<(), Failure> {
    let workspace = toolchain::workspace().map_err(Failure::Setup)?;
    let toolchain = find().map_err(Failure::Setup)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let target_dir = out.join("bpf");

    let status = compiler_command(&toolchain, &workspace, &target_dir)
        .args(["--package", package, "--bin", bin])
        .status()
        .map_err(|error| Failure::Setup(format!("run {}: {error}", toolchain.compiler.cargo.display())))?;
    if !status.success() {
        return Err(Failure::Compiler);
    }
    let object = target_dir.join(TARGET).join("release").join(bin);
    fs::copy(&object, out.join(bin)).map_err(|error| Failure::Setup(format!("copy {}: {error}", object.display())))?;

    for path in inputs(&workspace, package)
        .into_iter()
        .chain([toolchain.compiler.rustc, toolchain.linker])
    {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    Ok(())
}

fn compiler_command(toolchain: &Toolchain, workspace: &Path, target_dir: &Path) -> Command {
    let Toolchain { compiler, linker } = toolchain;
    let mut linker_flag = OsString::from("linker=");
    linker_flag.push(linker);
    let mut flags = OsString::new();
    for flag in ["-C", "debuginfo=2", "-C", "link-arg=--btf", "-C"] {
        flags.push(flag);
        flags.push("\x1f");
    }
    flags.push(linker_flag);

    let mut command = Command::new(&compiler.cargo);
    for name in env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| leaks(&name.to_string_lossy()))
    {
        command.env_remove(name);
    }
    command
        .args(["build", "--release", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .args(compiler.build_std.then_some("-Zbuild-std=core"))
        .current_dir(workspace)
        .env("RUSTC", &compiler.rustc)
        // Both compilers offer the target to nightly users only.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", "")
        // More units than one have overflowed the 512 bytes of stack.
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    command
}

/// Whether a variable of the outer build (cargo, clippy, rust-analyzer, rustup) would change the inner one.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
    ];
    const PREFIXES: [&str; 3] = ["CARGO", "RUSTC", "RUSTDOC"];
    const NAMES: [&str; 11] = [
        "CLIPPY_ARGS",
        "DEBUG",
        "HOST",
        "LD_LIBRARY_PATH",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    let starts_with = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    NAMES.contains(&name) || (starts_with(&PREFIXES) && !starts_with(&KEPT))
}

/// What the object is made from, beside the tools and the registry's crates.
fn inputs(workspace: &Path, package: &str) -> Vec<PathBuf> {
    let package = match package {
        "lb-tests-bpf" => "tests/bpf",
        other => other,
    };
    let mut paths = vec![workspace.join("Cargo.toml"), workspace.join("Cargo.lock")];
    for folder in [package, "lb-common"] {
        paths.extend([
            workspace.join(folder).join("Cargo.toml"),
            workspace.join(folder).join("src"),
        ]);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_stays_outside() {
        for name in [
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_TARGET_DIR",
            "CARGO_CFG_TARGET_OS",
            "RUSTUP_TOOLCHAIN",
            "CARGO",
        ] {
            assert!(leaks(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_MAKEFLAGS",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_X_INDEX",
            "HOME",
            "PATH",
        ] {
            assert!(!leaks(name), "{name}");
        }
    }
}
