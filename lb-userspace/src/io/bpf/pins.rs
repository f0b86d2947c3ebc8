//! The pin directory: on a bpf filesystem, held by one daemon, its maps of the layout this program expects.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::MapInfo;
use lb_common::abi::LAYOUT_VERSION;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::attach;

const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// What a pinned map has to look like before it is used: the kernel's side would read past a smaller value.
pub struct Shape {
    pub name: &'static str,
    pub key_size: usize,
    pub value_size: usize,
    /// None: any size will do.
    pub max_entries: Option<u32>,
}

impl Shape {
    pub const fn of<K, V>(name: &'static str, max_entries: Option<u32>) -> Self {
        Self {
            name,
            key_size: size_of::<K>(),
            value_size: size_of::<V>(),
            max_entries,
        }
    }
}

pub struct Pins {
    /// `pin_dir/<layout version>`.
    pub folder: PathBuf,
    /// Folders this start made and may take away again, the innermost first.
    fresh: Vec<PathBuf>,
    lock: File,
}

impl Pins {
    pub fn open(pin_dir: &Path) -> Result<Self> {
        ensure_bpffs(pin_dir)?;
        let folder = pin_dir.join(format!("v{LAYOUT_VERSION}"));
        let missing = [folder.as_path(), pin_dir]
            .into_iter()
            .filter(|folder| !folder.exists());
        let fresh = missing.map(Path::to_path_buf).collect();
        make_private(pin_dir).with_context(|| format!("create pin_dir {}", pin_dir.display()))?;
        let lock = lock(pin_dir)?;
        refuse_other_layouts(pin_dir, &folder)?;
        make_private(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self { folder, fresh, lock })
    }

    /// For folders that somebody has removed.
    pub fn make_again(&mut self) -> Result<()> {
        make_private(&self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        let pin_dir = self.folder.parent().context("find the pin directory")?;
        let now = fs::metadata(pin_dir).with_context(|| format!("look at {}", pin_dir.display()))?;
        if self.lock.metadata()?.ino() != now.ino() {
            self.lock = lock(pin_dir)?;
        }
        Ok(())
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name.to_lowercase())
    }

    /// Refuses a pinned map that is not what this program was built for.
    pub fn check(&self, shape: &Shape) -> Result<()> {
        let path = self.map(shape.name);
        if !path.exists() {
            return Ok(());
        }
        let info = MapInfo::from_pin(&path).with_context(|| format!("read the pinned map {}", path.display()))?;
        let found = (info.key_size() as usize, info.value_size() as usize);
        let sizes_fit = shape.max_entries.is_none_or(|wanted| wanted == info.max_entries());
        if found != (shape.key_size, shape.value_size) || !sizes_fit {
            bail!(
                "the pinned map {} has {} entries of {}+{} bytes where this naru wants {}+{}: another build made it; \
                 what it serves goes on; to start anew, and lose its flows, `rm -r {}`",
                path.display(),
                info.max_entries(),
                found.0,
                found.1,
                shape.key_size,
                shape.value_size,
                self.folder.display()
            );
        }
        Ok(())
    }

    /// Takes back what a start that failed has made.
    pub fn remove_if_fresh(&self) -> Result<()> {
        for folder in &self.fresh {
            fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        Ok(())
    }
}

fn lock(pin_dir: &Path) -> Result<File> {
    let lock = File::open(pin_dir).with_context(|| format!("open pin_dir {}", pin_dir.display()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => bail!(
            "another naru runs on pin_dir {0}: it goes on undisturbed; stop it first, or give this one its own \
             [node] pin_dir and run_dir",
            pin_dir.display()
        ),
        Err(error) => Err(error).with_context(|| format!("lock pin_dir {}", pin_dir.display())),
    }
}

/// The flows of another layout cannot be read, and its program serves on as long as its links are there.
fn refuse_other_layouts(pin_dir: &Path, folder: &Path) -> Result<()> {
    for other in fs::read_dir(pin_dir).with_context(|| format!("list {}", pin_dir.display()))? {
        let other = other?.path();
        if other != folder && other.is_dir() && !attach::pinned(&other)?.is_empty() {
            bail!(
                "the pins in {0} are of another layout than this naru's (v{LAYOUT_VERSION}): another version made them; \
                 what it serves goes on; to change over, and lose its flows, `rm -r {0}` and start again",
                other.display()
            );
        }
    }
    Ok(())
}

fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn ensure_bpffs(pin_dir: &Path) -> Result<()> {
    let existing = pin_dir
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"));
    if is_bpffs(existing)? {
        return Ok(());
    }
    if !pin_dir.starts_with(BPFFS) {
        bail!(
            "pin_dir {}: {} is not on a bpf filesystem; choose a folder below {BPFFS}, or mount one there: \
             `mount -t bpf bpf {}`",
            pin_dir.display(),
            existing.display(),
            existing.display()
        );
    }
    mount(
        "bpf",
        BPFFS,
        "bpf",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        c"mode=0700",
    )
    .with_context(|| format!("mount the bpf filesystem at {BPFFS}"))?;
    tracing::info!(path = BPFFS, "mounted the bpf filesystem");
    Ok(())
}

fn is_bpffs(folder: &Path) -> Result<bool> {
    let found = statfs(folder).with_context(|| format!("look at the filesystem of {}", folder.display()))?;
    Ok(found.f_type as i64 == BPFFS_MAGIC)
}
