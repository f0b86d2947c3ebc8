//! Watches who can read the files that hold keys and passwords.
//!
//! Looks every few seconds and never at what is in them: nobody tells when a mode changes. Tested in the lab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::regular_file::{ReadError, exposure, in_time};

const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// By path, what names it.
type Named = BTreeMap<PathBuf, String>;

pub struct SecretFiles {
    named: watch::Sender<Named>,
    warnings: watch::Receiver<Vec<String>>,
    task: JoinHandle<()>,
}

impl SecretFiles {
    pub fn open() -> Self {
        let (named, files) = watch::channel(Named::new());
        let (sender, warnings) = watch::channel(Vec::new());
        Self {
            named,
            warnings,
            task: tokio::spawn(follow(files, sender)),
        }
    }

    /// These and no others.
    pub fn follow(&self, files: Named) {
        self.named.send_if_modified(|named| {
            let differs = *named != files;
            *named = files;
            differs
        });
    }

    /// Returns when there are other warnings. Cancel safe.
    pub async fn changed(&mut self) {
        if self.warnings.changed().await.is_err() {
            // The task lives as long as we do.
            std::future::pending().await
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }
}

impl Drop for SecretFiles {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut files: watch::Receiver<Named>, warnings: watch::Sender<Vec<String>>) {
    loop {
        let named = files.borrow_and_update().clone();
        let found = look(&named).await;
        warnings.send_if_modified(|warnings| {
            let differs = *warnings != found;
            *warnings = found;
            differs
        });
        let _no_other_files = timeout(LOOK_INTERVAL, files.changed()).await;
    }
}

async fn look(named: &Named) -> Vec<String> {
    let mut warnings = Vec::new();
    for (path, named_by) in named {
        let exposure = in_time(path, exposure).await.and_then(|exposure| exposure);
        warnings.extend(warning(path, named_by, exposure));
    }
    warnings
}

/// Says what is wrong with a file. Whether there is one is told by what reads it.
pub fn warning(path: &Path, named_by: &str, exposure: Result<Option<String>, ReadError>) -> Option<String> {
    let why = match exposure {
        Ok(exposure) => exposure?,
        Err(error @ (ReadError::Folder | ReadError::NotFile)) => error.to_string(),
        Err(_) => return None,
    };
    Some(format!("{named_by} {}: {why}", path.display()))
}
