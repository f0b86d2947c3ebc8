//! A file that one daemon at a time holds, with its process number in it.
//!
//! Only a file of ours is written to: no link is followed, and what holds anything but such a number stays as it is. Only
//! its owner may open it, for who can open it could lock it. Tested here and by `control`.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::regular_file::{ReadError, open};

/// The longest process number and the end of its line.
const LONGEST: u64 = 11;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("process {by} holds the lock")]
    Held { by: String },
    #[error("{} is not a lock file of naru's: {why}; move it away", path.display())]
    Foreign { path: PathBuf, why: String },
    #[error("cannot lock {}: {error}", path.display())]
    Other { path: PathBuf, error: io::Error },
}

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

impl LockFile {
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let foreign = |why: String| LockError::Foreign {
            path: path.to_owned(),
            why,
        };
        let other = |error| LockError::Other {
            path: path.to_owned(),
            error,
        };
        let mut file = match open(path, &mut options(), libc::O_NOFOLLOW) {
            Ok(file) => file,
            Err(ReadError::Other(error)) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(foreign("it is a symbolic link".to_owned()));
            }
            Err(ReadError::Other(error)) => return Err(other(error)),
            Err(error) => return Err(foreign(error.to_string())),
        };
        let holder = holder(&mut file).map_err(other)?.map_err(foreign)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(other(error)),
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { by: holder }),
        }
        write(&mut file).map_err(other)?;
        Ok(Self { _file: file })
    }
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    options
}

/// The number in a file of ours; the inner error says why it is none.
fn holder(file: &mut File) -> io::Result<Result<String, String>> {
    if file.metadata()?.nlink() > 1 {
        return Ok(Err("it has other names".to_owned()));
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text)?;
    let is_number = text.len() as u64 <= LONGEST && text.trim_ascii().iter().all(u8::is_ascii_digit);
    Ok(match is_number {
        true => Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned()),
        false => Err("there is something else in it".to_owned()),
    })
}

fn write(file: &mut File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("naru-lock-{name}-{}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn one_holds_it_and_is_named() {
        let folder = Folder::new("one");
        let path = folder.0.join("naru.lock");
        // As an earlier daemon left it.
        fs::write(&path, "4194304\n").unwrap();
        let first = LockFile::take(&path).unwrap();
        let own = std::process::id().to_string();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let refusal = LockFile::take(&path).unwrap_err();
        assert!(matches!(&refusal, LockError::Held { by } if *by == own), "{refusal}");
        drop(first);
        LockFile::take(&path).unwrap();
    }

    #[test]
    fn nothing_of_anybody_elses_is_touched() {
        let folder = Folder::new("foreign");
        let (path, victim) = (folder.0.join("naru.lock"), folder.0.join("victim"));
        let refused = |why: &str| {
            let error = LockFile::take(&path).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{} is not a lock file of naru's: {why}; move it away", path.display())
            );
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            fs::remove_file(&path).unwrap();
        };
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        refused("it is a symbolic link");
        fs::hard_link(&victim, &path).unwrap();
        refused("it has other names");
        fs::copy(&victim, &path).unwrap();
        refused("there is something else in it");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        refused("it is not a file");
        symlink("/nowhere/at/all", &path).unwrap();
        refused("it is a symbolic link");
    }
}
