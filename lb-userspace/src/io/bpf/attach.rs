//! XDP on interfaces: always by a link, pinned, and replaced in place by the next daemon.
//!
//! The pin of a link says what it is: `link-<interface index>-<wanted mode>-<interface name>`. Dots are not allowed
//! in bpffs and stand as `%2e`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};

use crate::core::config;
use crate::core::kernel::Attachment;

const PREFIX: &str = "link";

/// Those pinned in `folder`, by interface index.
pub fn pinned(folder: &Path) -> Result<BTreeMap<u32, Attachment>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        if let Some((ifindex, attachment)) = entry?.file_name().to_str().and_then(parse) {
            found.insert(ifindex, attachment);
        }
    }
    Ok(found)
}

/// Returns why the driver refused native XDP, where the attachment leaves the mode to it.
pub fn attach(program: &mut Xdp, folder: &Path, ifindex: u32, attachment: &Attachment) -> Result<Option<String>> {
    // Looked at first: an attachment that cannot be pinned ends at once, and each may reset the link.
    ensure!(
        folder.is_dir(),
        "attach XDP to {}: {} is gone; it is made anew within a second",
        attachment.interface,
        folder.display()
    );
    let mut refusal = None;
    let link = match attachment.mode {
        config::Xdp::Native => create(program, ifindex, attachment, XdpMode::Driver),
        config::Xdp::Generic => create(program, ifindex, attachment, XdpMode::Skb),
        config::Xdp::Auto => create(program, ifindex, attachment, XdpMode::Driver).or_else(|native| {
            if is_busy(&native) {
                return Err(native);
            }
            tracing::warn!(
                interface = attachment.interface,
                reason = format!("{native:#}"),
                "no native XDP, taking generic"
            );
            refusal = Some(native.root_cause().to_string());
            create(program, ifindex, attachment, XdpMode::Skb)
        }),
    }?;
    link.pin(path(folder, ifindex, attachment))
        .with_context(|| format!("pin the link of {}", attachment.interface))?;
    Ok(refusal)
}

/// Puts `program` in the place of an older one, without a packet in between. False: the link serves nobody any more.
pub fn replace(program: &mut Xdp, folder: &Path, ifindex: u32, attachment: &Attachment) -> Result<bool> {
    let path = path(folder, ifindex, attachment);
    let unpinned_copy = PinnedLink::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    let link = XdpLink::try_from(FdLink::from(unpinned_copy)).context("read the pinned link as one of XDP")?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // The pin keeps it attached; our descriptor is not needed.
            drop(program.take_link(id)?);
            Ok(true)
        }
        Err(error) if errno(&error) != Some(libc::ENOLINK) => {
            Err(error).with_context(|| format!("replace the program on {}", attachment.interface))
        }
        Err(_) => {
            tracing::info!(
                interface = attachment.interface,
                "its pinned link leads nowhere, removing it"
            );
            detach(folder, ifindex, attachment)?;
            Ok(false)
        }
    }
}

pub fn detach(folder: &Path, ifindex: u32, attachment: &Attachment) -> Result<()> {
    let path = path(folder, ifindex, attachment);
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

/// Of an interface that has another name now.
pub fn rename(folder: &Path, ifindex: u32, from: &Attachment, to: &Attachment) -> Result<()> {
    let (from, to) = (path(folder, ifindex, from), path(folder, ifindex, to));
    fs::rename(&from, &to).with_context(|| format!("rename {}", from.display()))
}

/// As `detach`, for a pin that may be gone already.
pub fn remove_pin(folder: &Path, ifindex: u32, attachment: &Attachment) -> Result<()> {
    if path(folder, ifindex, attachment).exists() {
        detach(folder, ifindex, attachment)?;
    }
    Ok(())
}

pub fn is_there(ifindex: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer is as long as a name may be.
    !unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) }.is_null()
}

fn create(program: &mut Xdp, ifindex: u32, attachment: &Attachment, mode: XdpMode) -> Result<FdLink> {
    let interface = &attachment.interface;
    let word = if mode == XdpMode::Driver { "native" } else { "generic" };
    let id = program
        .attach_to_if_index(ifindex, mode)
        .map_err(|error| explain(error, interface, word))?;
    let link = program.take_link(id)?;
    // Where the kernel refuses a link the library attaches without one, which nothing could replace or keep.
    FdLink::try_from(link)
        .map_err(|_| anyhow!("attach XDP to {interface}: the kernel gives no link for {word} mode there"))
}

fn explain(error: ProgramError, interface: &str, mode: &str) -> anyhow::Error {
    let hint = match errno(&error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            "an XDP program of someone else is on it and stays there; `bpftool net` shows it, `ip link set dev … xdp \
             off` removes it, or, where `bpftool link` shows a link, its owner; it may be an earlier naru's with \
             other pins (`rm -r` of those detaches it)"
        }
        Some(libc::EOPNOTSUPP) => "its driver has no such mode; set [node] xdp = \"auto\" or \"generic\"",
        Some(libc::EINVAL | libc::ERANGE) => "the driver refuses, often for a large MTU or for LRO; see `dmesg`",
        Some(libc::ENODEV) => "the interface is gone",
        _ => "",
    };
    let error = anyhow::Error::new(error).context(format!("attach XDP to {interface} in {mode} mode"));
    if hint.is_empty() {
        error
    } else {
        error.context(format!("{interface}: {hint}"))
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| matches!(cause.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
}

pub fn path(folder: &Path, ifindex: u32, attachment: &Attachment) -> PathBuf {
    let name = attachment.interface.replace('%', "%25").replace('.', "%2e");
    folder.join(format!("{PREFIX}-{ifindex}-{}-{name}", word(attachment.mode)))
}

fn word(mode: config::Xdp) -> &'static str {
    match mode {
        config::Xdp::Auto => "auto",
        config::Xdp::Native => "native",
        config::Xdp::Generic => "generic",
    }
}

fn parse(file: &str) -> Option<(u32, Attachment)> {
    let mut parts = file.splitn(4, '-');
    let (prefix, ifindex, mode, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let mode = [config::Xdp::Auto, config::Xdp::Native, config::Xdp::Generic]
        .into_iter()
        .find(|wanted| word(*wanted) == mode)?;
    let interface = name.replace("%2e", ".").replace("%25", "%");
    (prefix == PREFIX).then_some((ifindex.parse().ok()?, Attachment { interface, mode }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_says_what_it_is() {
        for name in ["eth0", "eth0.10", "wan-1.2-x", "%2e"] {
            let attachment = Attachment {
                interface: name.into(),
                mode: config::Xdp::Generic,
            };
            let path = path(Path::new("/p"), 7, &attachment);
            let file = path.file_name().expect("a file").to_str().expect("text");
            assert!(!file.contains('.'), "{file}");
            assert_eq!(parse(file), Some((7, attachment)));
        }
        assert_eq!(parse("flows"), None);
        assert_eq!(parse("link-x-auto-eth0"), None);
    }
}
