//! A descriptor of each thing that is pinned. Whoever removes a pin while we run takes nothing away: it is still there,
//! a program still on its interface, and is pinned again.
//!
//! Tested in `tests/it/lab/disturbed.rs`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::syscall::{LinkInfo, link_info, open_pin, pin};
use super::{Kernel, SHAPES, attach, program, stages};
use crate::core::kernel::Attachment;

#[derive(Default)]
pub struct Kept(BTreeMap<PathBuf, OwnedFd>);

impl Kept {
    pub fn keep(&mut self, path: PathBuf) -> Result<()> {
        let what = open_pin(&path).with_context(|| format!("open {}", path.display()))?;
        self.0.insert(path, what);
        Ok(())
    }

    pub fn forget(&mut self, path: &Path) {
        self.0.remove(path);
    }

    pub fn rename(&mut self, from: &Path, to: PathBuf) {
        if let Some(what) = self.0.remove(from) {
            self.0.insert(to, what);
        }
    }

    /// Those without their pin.
    pub fn unpinned(&self) -> Vec<&Path> {
        let paths = self.0.keys().map(PathBuf::as_path);
        paths.filter(|path| !path.exists()).collect()
    }

    pub fn pin_again(&self, path: &Path) -> Result<()> {
        let what = self.0.get(path).context("find what was pinned")?;
        pin(what, path).with_context(|| format!("pin {}", path.display()))
    }

    /// Of a link; none where the kernel does not say.
    pub fn link(&self, path: &Path) -> Option<LinkInfo> {
        link_info(self.0.get(path)?).ok()
    }
}

impl Kernel {
    pub(super) fn keep_pins(&mut self) -> Result<()> {
        let maps = SHAPES.iter().map(|shape| shape.name).chain([stages::MAP]);
        let links = self.attached.iter().map(|(ifindex, on)| self.link_pin(*ifindex, on));
        let pins: Vec<_> = maps.map(|name| self.pins.map(name)).chain(links).collect();
        pins.into_iter().try_for_each(|pin| self.kept.keep(pin))
    }

    pub(super) fn link_pin(&self, ifindex: u32, attachment: &Attachment) -> PathBuf {
        attach::path(&self.pins.folder, ifindex, attachment)
    }

    /// Pins what somebody has unpinned: their names.
    pub fn pin_again(&mut self) -> Result<Vec<String>> {
        let unpinned = self.kept.unpinned();
        if unpinned.is_empty() {
            return Ok(Vec::new());
        }
        self.pins.make_again()?;
        let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
        let again = |path: &Path| self.kept.pin_again(path).map(|()| name(path));
        unpinned.into_iter().map(again).collect()
    }

    /// False: they are to be put anew.
    pub fn slot_tables_are_pinned(&self) -> bool {
        self.slots.are_pinned()
    }

    /// Interfaces that are there and have our program no longer.
    pub fn lost(&mut self) -> Result<Vec<u32>> {
        let ours = program(&mut self.object).info().context("ask about our program")?.id();
        let lost = |&(ifindex, attachment): &(&u32, &Attachment)| {
            let link = self.kept.link(&self.link_pin(*ifindex, attachment));
            let is_ours = |link: LinkInfo| (link.ifindex, link.program) == (*ifindex, ours);
            link.is_some_and(|link| !is_ours(link)) && attach::is_there(*ifindex)
        };
        Ok(self.attached.iter().filter(lost).map(|(ifindex, _)| *ifindex).collect())
    }
}
