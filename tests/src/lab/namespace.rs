//! A network namespace of the lab: made empty, removed on Drop, entered by commands and closures.
//!
//! Entered by setns only. `ip netns exec` would also mount a new /sys, and hide /sys/fs/bpf with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{panic, thread};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::process;

const FOLDER: &str = "/run/netns";

pub struct Namespace {
    lab_id: String,
    role: String,
    handle: Arc<OwnedFd>,
}

impl Namespace {
    pub(super) fn new(lab_id: &str, role: &str) -> Result<Self> {
        let name = name(lab_id, role);
        process::stdout(process::command(lab_id, "ip").args(["netns", "add", &name]))?;
        let handle = File::open(path(&name)).with_context(|| format!("open namespace {name}"));
        let handle = match handle {
            Ok(file) => Arc::new(OwnedFd::from(file)),
            Err(error) => {
                remove(&name);
                return Err(error);
            }
        };
        let namespace = Self {
            lab_id: lab_id.to_owned(),
            role: role.to_owned(),
            handle,
        };
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv4/ip_forward", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// From now on its interfaces do; without a look for doubles, which takes a second, and there are none. Addresses are put
    /// with `nodad` all the same: the kernel would have others wait until it has time to see that it need not look.
    pub fn speak_ipv6(&self) -> Result<()> {
        for (name, value) in [
            ("accept_dad", "0"),
            ("router_solicitations", "0"),
            ("disable_ipv6", "0"),
        ] {
            self.sysctl(&format!("net/ipv6/conf/default/{name}"), value)?;
        }
        self.sysctl("net/ipv6/conf/all/disable_ipv6", "0")
    }

    /// Routes packets of others, of both families, or no longer.
    pub fn forward(&self, forward: bool) -> Result<()> {
        let value = if forward { "1" } else { "0" };
        // Nobody is told of better ways.
        self.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        self.sysctl("net/ipv4/ip_forward", value)?;
        self.sysctl("net/ipv6/conf/all/forwarding", value)
    }

    /// What it is in its lab: `client`, `node`, `b1` …
    pub fn role(&self) -> &str {
        &self.role
    }

    /// As `ip netns` lists it.
    pub fn name(&self) -> String {
        name(&self.lab_id, &self.role)
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = process::command(&self.lab_id, program);
        let handle = Arc::clone(&self.handle);
        // SAFETY: setns only, safe between fork and exec; the descriptor is open as long as the command lives.
        unsafe { command.pre_exec(move || Ok(enter(&handle)?)) };
        command
    }

    /// Runs `act` on a thread inside. Sockets and threads made there stay there; a process started there would die
    /// with that thread, so start it with `command`.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.handle).with_context(|| format!("enter namespace {}", self.role))?;
                Ok(act())
            });
            thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// One command of `ip` a line.
    pub fn ip(&self, lines: &str) -> Result<()> {
        process::feed(self.command("ip").args(["-batch", "-"]), lines).with_context(|| format!("in {}", self.role))
    }

    /// Index and hardware address of an interface.
    pub fn link(&self, interface: &str) -> Result<(u32, [u8; 6])> {
        let shown: Value = serde_json::from_str(&self.stdout("ip", &["-j", "link", "show", interface])?)?;
        let index = shown[0]["ifindex"].as_u64().context("find the interface's index")?;
        let words = shown[0]["address"].as_str().unwrap_or_default().split(':');
        let mac: Vec<u8> = words
            .map(|word| u8::from_str_radix(word, 16))
            .collect::<Result<_, _>>()?;
        Ok((
            u32::try_from(index)?,
            mac.as_slice().try_into().context("read the MAC")?,
        ))
    }

    /// `net/ipv4/ip_forward` and the like.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys").join(name);
        self.inside(|| fs::write(&file, value))?
            .with_context(|| format!("write {} in {}", file.display(), self.role))
    }

    /// Of what comes in, this share is lost by chance, in per cent; ARP and ND always pass.
    pub fn lose(&self, percent: u32) -> Result<()> {
        self.filter(&match percent {
            0 => String::new(),
            _ => format!("iif != lo numgen random mod 100 <= {} counter drop", percent - 1),
        })
    }

    /// What is established goes on. Until `join`.
    pub fn ignore_new_connections(&self) -> Result<()> {
        self.filter("iif != lo tcp flags & (syn|ack) == syn counter drop")
    }

    /// IP packets that come from this hardware address are lost. Until `join`.
    pub fn ignore_sender(&self, mac: &str) -> Result<()> {
        self.filter(&format!("ether saddr {mac} counter drop"))
    }

    fn filter(&self, rule: &str) -> Result<()> {
        let chain = format!("chain incoming {{\ntype filter hook prerouting priority raw\n{rule}\n}}");
        let rules = format!("table inet loss {{}}\ndelete table inet loss\ntable inet loss {{\n{chain}\n}}\n");
        process::feed(self.command("nft").args(["-f", "-"]), &rules).with_context(|| format!("in {}", self.role))
    }

    /// How many were lost so far.
    pub fn lost(&self) -> Result<u64> {
        let listed = self.stdout("nft", &["list", "table", "inet", "loss"])?;
        let count = listed
            .split("counter packets ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        Ok(count.context("find the counter")?.parse()?)
    }

    /// Everything that comes in is lost, as if a cable were unplugged far away.
    pub fn cut_off(&self) -> Result<()> {
        self.lose(100)
    }

    pub fn join(&self) -> Result<()> {
        self.lose(0)
    }

    /// Checksums and segments are made by the sender, as a wire needs them: XDP sees whole packets only.
    pub fn no_offload(&self, interface: &str) -> Result<()> {
        process::stdout(self.command("ethtool").args(["-K", interface, "tx", "off"])).map(|_| ())
    }

    /// What a command inside printed; it must succeed.
    pub fn stdout(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::stdout(self.command(program).args(arguments))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name());
    }
}

fn enter(handle: &OwnedFd) -> rustix::io::Result<()> {
    move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
}

fn name(lab_id: &str, role: &str) -> String {
    format!("naru-{lab_id}-{role}")
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The names of all namespaces that a lab may have made.
pub(super) fn all() -> Vec<String> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("naru-"))
        .collect()
}

pub(super) fn remove(name: &str) {
    if let Err(error) = process::stdout(Command::new("ip").args(["netns", "del", name])) {
        eprintln!("namespace {name} stays: {error:#}");
    }
}
