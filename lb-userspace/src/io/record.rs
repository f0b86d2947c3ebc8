//! The files that hold after a restart what is kept for that: each read once, at the start, and replaced as a whole.
//!
//! Writing waits for the disk, so it happens beside the event loop, one write of a file at a time. What stands there,
//! and what its loss means, is for `core::keeping`. Tested here and by the lab cases `operator` and `dns`.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::future::pending;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::bail;
use tokio::task::{JoinHandle, spawn_blocking};

use super::regular_file::{ReadError, read};
use crate::core::keeping::Kept;

/// More than there is to say: each backend there is room for takes some hundred bytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// All that is kept, in one folder.
pub struct Records {
    overrides: Record,
    names: Record,
    /// Of the folder; None where there is none yet.
    _lock: Option<File>,
}

struct Record {
    path: PathBuf,
    under_way: Option<JoinHandle<Result<(), String>>>,
    /// To be written when that is done.
    next: Option<String>,
}

impl Records {
    /// Refused only where another daemon writes there. A folder that cannot be made is told by `read` and `write`.
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let folder = make_private(state_dir).and_then(|()| File::open(state_dir)).ok();
        if let Some(Err(TryLockError::WouldBlock)) = folder.as_ref().map(File::try_lock) {
            bail!(
                "another naru keeps its overrides in {}; give this one its own [node] state_dir",
                state_dir.display()
            );
        }
        Ok(Self {
            overrides: Record::at(state_dir.join("overrides.json")),
            names: Record::at(state_dir.join("names.json")),
            _lock: folder,
        })
    }

    /// None: nobody has written any. One that was set aside is told until there is another.
    pub fn read(&self, kept: Kept) -> Option<Result<Vec<u8>, String>> {
        self.of(kept).read()
    }

    /// A record nobody understands is no longer in the way, and still there for who wants to look into it.
    pub fn set_aside(&self, kept: Kept) -> io::Result<PathBuf> {
        self.of(kept).set_aside()
    }

    pub fn write(&mut self, kept: Kept, text: String) {
        match kept {
            Kept::Overrides => self.overrides.write(text),
            Kept::Names => self.names.write(text),
        }
    }

    pub fn is_writing(&self, kept: Kept) -> bool {
        self.of(kept).under_way.is_some()
    }

    /// What became of a write; the next one is then under way. Cancel safe.
    pub async fn written(&mut self) -> (Kept, Result<(), String>) {
        tokio::select! {
            outcome = self.overrides.written() => (Kept::Overrides, outcome),
            outcome = self.names.written() => (Kept::Names, outcome),
        }
    }

    const fn of(&self, kept: Kept) -> &Record {
        match kept {
            Kept::Overrides => &self.overrides,
            Kept::Names => &self.names,
        }
    }
}

impl Record {
    const fn at(path: PathBuf) -> Self {
        Self {
            path,
            under_way: None,
            next: None,
        }
    }

    fn read(&self) -> Option<Result<Vec<u8>, String>> {
        match read(&self.path, LONGEST) {
            Err(ReadError::Missing) => {
                let aside = self.aside();
                aside
                    .exists()
                    .then(|| Err(format!("it is set aside as {}", aside.display())))
            }
            read => Some(read.map_err(|error| error.to_string())),
        }
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.aside();
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    fn aside(&self) -> PathBuf {
        self.path.with_extension("json.damaged")
    }

    fn write(&mut self, text: String) {
        if self.under_way.is_some() {
            self.next = Some(text);
            return;
        }
        let path = self.path.clone();
        let write = move || replace(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()));
        self.under_way = Some(spawn_blocking(write));
    }

    async fn written(&mut self) -> Result<(), String> {
        let Some(task) = &mut self.under_way else {
            return pending().await;
        };
        let outcome = task.await.unwrap_or_else(|error| Err(error.to_string()));
        self.under_way = None;
        if let Some(text) = self.next.take() {
            self.write(text);
        }
        outcome
    }
}

/// Who could open the folder could lock it.
fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The old text or the new, whenever the power fails.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_private(folder)?;
    let new = path.with_extension("json.new");
    // What a crash, or somebody else, has left there is not written into: it may lead anywhere.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const KEPT: Kept = Kept::Overrides;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("naru-record-{}-{name}", std::process::id()));
            let _not_there = fs::remove_dir_all(&folder);
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn the_last_text_stays() {
        let folder = Folder::new("last");
        let mut records = Records::open(&folder.0.join("deep")).unwrap();
        assert_eq!(records.read(KEPT), None);
        for text in ["one", "two", "three"] {
            records.write(KEPT, text.to_owned());
        }
        while records.is_writing(KEPT) {
            assert_eq!(records.written().await, (KEPT, Ok(())));
        }
        assert_eq!(records.read(KEPT), Some(Ok(b"three".to_vec())));
        let left: Vec<_> = fs::read_dir(folder.0.join("deep")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");

        let aside = records.set_aside(KEPT).unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), "three");
        let told = records.read(KEPT).unwrap().unwrap_err();
        assert_eq!(told, format!("it is set aside as {}", aside.display()));
        fs::remove_file(aside).unwrap();
        assert_eq!(records.read(KEPT), None);
    }

    /// A folder that is a file: nobody, not even root, writes below it.
    #[tokio::test]
    async fn a_folder_that_cannot_be_is_told_and_tried_again() {
        let folder = Folder::new("blocked");
        fs::write(&folder.0, "in the way").unwrap();
        let mut records = Records::open(&folder.0).unwrap();
        records.write(KEPT, "one".to_owned());
        let error = records.written().await.1.unwrap_err();
        assert!(
            error.starts_with("cannot write ") && error.contains("overrides.json: "),
            "{error}"
        );
        fs::remove_file(&folder.0).unwrap();
        records.write(KEPT, "two".to_owned());
        assert_eq!(records.written().await, (KEPT, Ok(())));
        assert_eq!(records.read(KEPT), Some(Ok(b"two".to_vec())));
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let folder = Folder::new("link");
        fs::create_dir_all(&folder.0).unwrap();
        let (victim, path) = (folder.0.join("victim"), folder.0.join("overrides.json"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, folder.0.join("overrides.json.new")).unwrap();
        replace(&path, "one").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let written = fs::symlink_metadata(&path).unwrap();
        assert!(written.is_file());
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    }

    #[test]
    fn a_folder_has_one_writer() {
        let folder = Folder::new("one");
        let first = Records::open(&folder.0).unwrap();
        let error = Records::open(&folder.0).err().unwrap().to_string();
        assert!(error.contains("another naru") && error.contains("state_dir"), "{error}");
        drop(first);
        assert!(Records::open(&folder.0).is_ok());
    }
}
