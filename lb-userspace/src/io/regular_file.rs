//! Reads the files that a configuration names: whole regular files, up to a limit.
//!
//! A FIFO, a device or an endless file is refused, so no read lasts forever. A file system may still hang, so the event
//! loop reads through `read_in_time`: on another thread, one read of a path at a time, with a deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{getegid, geteuid};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a file system may take; a local disk under load takes some tens of milliseconds.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// Of a mode: those that let others, and the group, read or write.
const OTHERS: u32 = 0o006;
const GROUP: u32 = 0o060;

/// Held while somebody looks at a path.
type Turn = tokio::sync::Mutex<()>;

/// Completes the sentence "cannot read FILE: ".
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it does not exist")]
    Missing,
    #[error("permission denied")]
    Denied,
    #[error("it is a folder")]
    Folder,
    #[error("it is not a file")]
    NotFile,
    #[error("it is larger than {}", Size(*limit))]
    TooLarge { limit: u64 },
    #[error("its file system does not answer")]
    Hangs,
    #[error(transparent)]
    Other(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Missing,
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::IsADirectory => Self::Folder,
            _ => Self::Other(error),
        }
    }
}

/// Reads a regular file of at most `limit` bytes. Never waits for somebody to write it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let file = open(path, File::options().read(true), 0)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { limit });
    }
    Ok(bytes)
}

/// Opens a regular file, and nothing else: opening a FIFO does not wait, a terminal does not become ours.
pub fn open(path: &Path, options: &mut OpenOptions, flags: i32) -> Result<File, ReadError> {
    let file = options
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | flags)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    match (kind.is_dir(), kind.is_file()) {
        (true, _) => Err(ReadError::Folder),
        (false, false) => Err(ReadError::NotFile),
        (false, true) => Ok(file),
    }
}

/// As `read`, without keeping the event loop.
pub async fn read_in_time(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    in_time(path, move |path| read(path, limit)).await?
}

/// Runs `look` on another thread. Each path has one such thread at most: where its file system hangs, who asks next
/// waits for that one, and no longer than it may take.
pub async fn in_time<T: Send + 'static>(
    path: &Path,
    look: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, ReadError> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<Turn>>> = Mutex::new(BTreeMap::new());
    let path = path.to_owned();
    let turn = {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(path.clone()).or_default().clone()
    };
    let looked = timeout(READ_TIMEOUT, async {
        let turn = turn.lock_owned().await;
        spawn_blocking(move || {
            let found = look(&path);
            drop(turn);
            found
        })
        .await
    });
    match looked.await {
        Ok(found) => found.map_err(|broken| ReadError::Other(io::Error::other(broken))),
        Err(_) => Err(ReadError::Hangs),
    }
}

/// Says who can read or change a secret beside root and the daemon. None: nobody can.
pub fn exposure(path: &Path) -> Result<Option<String>, ReadError> {
    let file = open(path, File::options().read(true), 0)?;
    Ok(exposed(&file.metadata()?, geteuid().as_raw(), getegid().as_raw()))
}

/// A group of root's or of the daemon's own is how a daemon that is not root is let in.
fn exposed(file: &Metadata, user: u32, group: u32) -> Option<String> {
    let mode = file.mode() & 0o777;
    let who = if mode & OTHERS != 0 {
        "everybody".to_owned()
    } else if mode & GROUP != 0 && ![0, group].contains(&file.gid()) {
        format!("group {}", file.gid())
    } else if ![0, user].contains(&file.uid()) {
        format!("user {}", file.uid())
    } else {
        return None;
    };
    Some(format!(
        "{who} can read it (mode {mode:03o}, owner {}:{}); chown it to root, chmod 600",
        file.uid(),
        file.gid()
    ))
}

/// In the unit that a person would use.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("naru-regular-file-{name}-{}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn file(&self, bytes: &[u8]) -> PathBuf {
            let path = self.0.join("file");
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refusal(path: impl AsRef<Path>, limit: u64) -> String {
        read(path.as_ref(), limit).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = Folder::new("whole");
        let file = folder.file(b"four");
        assert_eq!(read(&file, 4).unwrap(), b"four");
        assert_eq!(refusal(&file, 3), "it is larger than 3 bytes");
        assert_eq!(refusal("/nowhere/file", 4), "it does not exist");
        assert_eq!(refusal(&folder.0, 4), "it is a folder");
        // Its size is 0 as far as anybody knows.
        assert!(read(Path::new("/proc/self/status"), 1 << 20).unwrap().len() > 100);
    }

    /// On another thread, for one that is waited for would never come back.
    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = Folder::new("refused");
        let fifo = folder.0.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            for path in [
                &fifo,
                Path::new("/dev/zero"),
                Path::new("/dev/tty0"),
                Path::new("/dev/null"),
            ] {
                sender
                    .send((path.to_owned(), read(path, 4).map_err(|error| error.to_string())))
                    .unwrap();
            }
        });
        while let Ok((path, outcome)) = told.recv_timeout(Duration::from_secs(5)) {
            let why = outcome.unwrap_err();
            let is_missing = path == Path::new("/dev/tty0") && why != "it is not a file";
            assert!(is_missing || why == "it is not a file", "{}: {why}", path.display());
        }
        assert!(
            matches!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected)),
            "a read hangs"
        );
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_costs_one_thread_and_a_moment() {
        let (path, (release, held)) = (Path::new("/hangs"), mpsc::channel::<()>());
        let begin = Instant::now();
        let first = in_time(path, move |_| held.recv()).await;
        assert!(matches!(first, Err(ReadError::Hangs)));
        for _ in 0..3 {
            let next = in_time(path, |_| panic!("a second thread")).await;
            assert!(matches!(next, Err(ReadError::Hangs)));
        }
        assert!(begin.elapsed() < READ_TIMEOUT * 8, "{:?}", begin.elapsed());
        assert!(in_time(Path::new("/another"), |_| ()).await.is_ok());
        release.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while in_time(path, |_| ()).await.is_err() {
            assert!(Instant::now() < deadline, "it never comes back");
        }
    }

    #[test]
    fn a_secret_is_for_root_and_the_daemon_alone() {
        let folder = Folder::new("exposed");
        let file = folder.file(b"secret");
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let exposed_at = |mode| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            exposure(&file).unwrap()
        };
        assert_eq!(exposed_at(0o600), None);
        assert_eq!(exposed_at(0o440), None, "the daemon's own group");
        for mode in [0o644, 0o604, 0o602] {
            let why = exposed_at(mode).unwrap();
            assert!(
                why.starts_with(&format!("everybody can read it (mode {mode:03o}, ")),
                "{why}"
            );
        }
        exposed_at(0o640);
        let metadata = fs::metadata(&file).unwrap();
        let told = exposed(&metadata, user + 1, group + 1);
        // Root's are everybody's to trust.
        assert_eq!(told.is_some(), user != 0 || group != 0, "{told:?}");
        if user != 0 {
            return;
        }
        chown(&file, None, Some(4242)).unwrap();
        assert!(exposed_at(0o640).unwrap().starts_with("group 4242 can read it"));
        assert_eq!(exposed_at(0o600), None);
        chown(&file, Some(4242), None).unwrap();
        assert!(exposed_at(0o600).unwrap().starts_with("user 4242 can read it"));
        assert!(exposure(Path::new("/dev/zero")).is_err());
    }
}
