//! The configuration file on disk, read and watched. What it says is for `core::config`.

mod watch;

use std::path::Path;

use super::regular_file;
use crate::core::config::MAX_FILE_BYTES;

pub use watch::Watch;

/// Completes the sentence "cannot read FILE: ".
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    File(#[from] regular_file::ReadError),
    #[error("it is not text: line {line} is not UTF-8")]
    NotText { line: usize },
}

/// Never holds more of the file than is allowed, however large it is.
pub fn read(path: &Path) -> Result<String, ReadError> {
    as_text(regular_file::read(path, MAX_FILE_BYTES)?)
}

/// As `read`, without keeping the event loop.
pub async fn read_in_time(path: &Path) -> Result<String, ReadError> {
    as_text(regular_file::read_in_time(path, MAX_FILE_BYTES).await?)
}

fn as_text(bytes: Vec<u8>) -> Result<String, ReadError> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ReadError::NotText {
            line: 1 + valid.iter().filter(|byte| **byte == b'\n').count(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file(bytes: &[u8]) -> Result<String, String> {
        let path = std::env::temp_dir().join(format!("naru-config-file-{}-{}", std::process::id(), bytes.len()));
        std::fs::write(&path, bytes).unwrap();
        let text = read(&path).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        text
    }

    #[test]
    fn a_pipe_without_a_writer_is_refused_at_once() {
        let path = std::env::temp_dir().join(format!("naru-config-file-{}-pipe", std::process::id()));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let error = read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error, "it is not a file");
        assert_eq!(
            read(Path::new("/dev/null")).unwrap_err().to_string(),
            "it is not a file"
        );
    }

    #[test]
    fn says_why_a_file_cannot_be_read() {
        let largest = vec![b'#'; usize::try_from(MAX_FILE_BYTES).unwrap()];
        assert_eq!(in_file(&largest).map(|text| text.len()), Ok(largest.len()));
        assert_eq!(
            in_file(&[largest, vec![b'#']].concat()),
            Err("it is larger than 1 MiB".to_owned())
        );
        assert_eq!(
            in_file(b"a = 1\nb = \xff\n"),
            Err("it is not text: line 2 is not UTF-8".to_owned())
        );
        assert_eq!(in_file(b""), Ok(String::new()));
        assert_eq!(read(&std::env::temp_dir()).unwrap_err().to_string(), "it is a folder");
        assert_eq!(
            read(Path::new("/nowhere/naru.toml")).unwrap_err().to_string(),
            "it does not exist"
        );
        assert_eq!(
            read(Path::new("/proc/self/exe/naru.toml")).unwrap_err().to_string(),
            "it does not exist"
        );
    }
}
