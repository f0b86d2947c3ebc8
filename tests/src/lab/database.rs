//! What the databases of the lab have in common: run by nobody, data copied from a template, SQL by their own clients.
//!
//! Templates are made once, beside what cargo builds: they take seconds. Everything else goes with the lab.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Lab, Namespace, poll, process};

/// Databases refuse to be run by root.
const NOBODY: u32 = 65534;

/// A command in the namespace, run by nobody, that dies with us; what is shared by memory is its own.
pub(super) fn by_nobody(namespace: &Namespace, program: impl AsRef<OsStr>) -> Command {
    let mut command = namespace.command("unshare");
    command.args(["--ipc", "--"]).args(as_nobody()).arg(program);
    command
}

/// What begins the command line of a program that nobody runs.
pub(super) fn as_nobody() -> Vec<String> {
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let rest = ["--clear-groups", "--pdeathsig=KILL", "--"].map(str::to_owned);
    ["setpriv".to_owned()].into_iter().chain(ids).chain(rest).collect()
}

/// A folder of nobody's, in the lab.
pub(super) fn folder(lab: &Lab, name: &str) -> Result<PathBuf> {
    let folder = lab.folder().join(name);
    fs::create_dir(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    chown(&folder, Some(NOBODY), Some(NOBODY))?;
    Ok(folder)
}

/// Copies the template called `name` to `to`; made first by `make`, which is given a folder that is not there yet.
pub(super) fn from_template(lab: &Lab, name: &str, to: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let own = std::env::current_exe()?;
    let built = own.ancestors().nth(2).context("find what cargo built")?;
    let templates = built.join("templates");
    let template = templates.join(name);
    if !template.exists() {
        let new = folder(lab, &format!("{name}-template"))?.join("data");
        make(&new)?;
        let part = templates.join(format!("{name}.{}", std::process::id()));
        fs::create_dir_all(&templates)?;
        copy(&new, &part)?;
        fs::rename(&part, &template).context("keep the template")?;
    }
    copy(&template, to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    process::stdout(Command::new("cp").arg("-a").arg(from).arg(to)).map(|_| ())
}

/// A certificate for `name` that vouches for itself, `certificate.pem`, and beside it `key.pem`.
pub(super) fn certificate(folder: &Path, name: &str) -> Result<PathBuf> {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
    ]);
    openssl.args([
        "-days",
        "2",
        "-subj",
        &format!("/CN={name}"),
        "-addext",
        &format!("subjectAltName=DNS:{name}"),
    ]);
    openssl
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key);
    process::stdout(openssl.arg("-out").arg(&certificate))?;
    for file in [&key, &certificate] {
        chown(file, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(certificate)
}

/// Until no process works in this folder: the children of a killed server notice a moment later.
pub(super) fn until_left(folder: &Path) -> Result<()> {
    poll::until(Duration::from_secs(10), || {
        let entries = fs::read_dir("/proc")?.flatten();
        let inside = entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder));
        let inside: Vec<_> = inside.map(|entry| entry.file_name()).collect();
        ensure!(
            inside.is_empty(),
            "processes {inside:?} are still in {}",
            folder.display()
        );
        Ok(())
    })
}
