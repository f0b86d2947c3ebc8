//! Tells when the configuration file says something else, however it was replaced.
//!
//! Never judges the text. Folders are watched, not the file: editors, `mv` and volumes of container platforms put a
//! new file or link in its place. A slow look beside it sees what inotify cannot (network file systems, a replaced
//! folder).

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::read_in_time;

/// A text is believed when the file says the same again so much later: a half-written one does not last.
const QUIET: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(5);
/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

type Text = Result<String, String>;

pub struct Watch {
    changes: mpsc::Receiver<Text>,
    task: JoinHandle<()>,
}

impl Watch {
    /// `known` is what the file said when it was last read: the first change is one from that.
    pub fn open(path: &Path, known: String) -> anyhow::Result<Self> {
        let events = events(path)?;
        let (sender, changes) = mpsc::channel(1);
        let task = tokio::spawn(follow(path.to_owned(), Ok(known), events, sender));
        Ok(Self { changes, task })
    }

    /// The new text, or why the file cannot be read any more. Cancel safe.
    pub async fn changed(&mut self) -> Text {
        match self.changes.recv().await {
            Some(text) => text,
            // The task lives as long as this Watch.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(path: PathBuf, mut known: Text, mut seen: AsyncFd<OwnedFd>, changes: mpsc::Sender<Text>) {
    loop {
        match timeout(LOOK, event(&seen, false)).await {
            // A writer may stop for good halfway, and somebody else may write next to the file without end.
            Ok(writing) => {
                let _ = timeout(LOOK, written(&seen, writing)).await;
            }
            Err(_) if current(&path).await == known => continue,
            Err(_) => {}
        }
        // Links may lead elsewhere now; watched before it is read, no later change is missed.
        if let Ok(fresh) = events(&path) {
            seen = fresh;
        }
        let text = settled(&path).await;
        if text != known {
            known = text.clone();
            if changes.send(text).await.is_err() {
                return;
            }
        }
    }
}

async fn current(path: &Path) -> Text {
    read_in_time(path).await.map_err(|error| error.to_string())
}

async fn settled(path: &Path) -> Text {
    let mut text = current(path).await;
    loop {
        sleep(QUIET).await;
        let again = current(path).await;
        if again == text {
            return text;
        }
        text = again;
    }
}

/// Waits until the folders are quiet, and until a file that was written to is closed.
async fn written(seen: &AsyncFd<OwnedFd>, mut writing: bool) {
    while let Ok(still) = timeout(if writing { LOOK } else { QUIET }, event(seen, writing)).await {
        writing = still;
    }
}

/// Waits until something happened in a watched folder, and tells whether a file there is `writing`: written to and not
/// closed. Which one, is not worth knowing: the text is compared.
async fn event(seen: &AsyncFd<OwnedFd>, writing: bool) -> bool {
    let read = |fd: &OwnedFd| {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(fd, &mut buffer);
        let mut writing = writing;
        loop {
            let happened = events.next()?.events();
            // A change of owner or mode tells nothing about the writer.
            if !happened.contains(ReadFlags::ATTRIB) {
                writing = happened.contains(ReadFlags::MODIFY);
            }
            if events.is_buffer_empty() {
                return Ok(writing);
            }
        }
    };
    match seen.async_io(Interest::READABLE, read).await {
        Ok(writing) => writing,
        Err(_) => {
            sleep(LOOK).await;
            writing
        }
    }
}

fn events(path: &Path) -> anyhow::Result<AsyncFd<OwnedFd>> {
    let seen = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).context("open inotify")?;
    let (first, others) = folders(path);
    let flags = WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(&seen, &first, flags).with_context(|| format!("watch folder {}", first.display()))?;
    for folder in others {
        // A link into nowhere is a file that cannot be read, which is told elsewhere.
        let _ = inotify::add_watch(&seen, &folder, flags);
    }
    // SAFETY: an OwnedFd is open for as long as it lives, and the AsyncFd is handed out for shared use only.
    unsafe { AsyncFd::register_with_interest(seen, Interest::READABLE) }.context("wait for inotify")
}

/// The folder of `path`, and those of every link on the way to the file itself.
fn folders(path: &Path) -> (PathBuf, BTreeSet<PathBuf>) {
    let first = folder_of(path);
    let mut others = BTreeSet::new();
    let mut step = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = step.read_link() else { break };
        step = folder_of(&step).join(target);
        others.insert(folder_of(&step));
    }
    others.extend(path.canonicalize().ok().map(|file| folder_of(&file)));
    (first, others)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder that goes with its test, for a `naru.toml`.
    struct Case {
        folder: PathBuf,
        file: PathBuf,
    }

    impl Case {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("naru-config-{name}-{}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            let file = folder.join("naru.toml");
            Self { folder, file }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.join(name)
        }

        /// Runs `change` with a watch on the file, which says "old".
        fn run(&self, change: impl AsyncFnOnce(&mut Watch)) {
            if fs::symlink_metadata(&self.file).is_err() {
                fs::write(&self.file, "old").unwrap();
            }
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async {
                    let mut watch = Watch::open(&self.file, "old".to_owned()).unwrap();
                    change(&mut watch).await;
                });
        }
    }

    impl Drop for Case {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    /// Within what events promise, well before the slow look.
    async fn soon(watch: &mut Watch) -> Text {
        timeout(LOOK / 2, watch.changed())
            .await
            .expect("the change was not seen")
    }

    async fn nothing(watch: &mut Watch) {
        let told = timeout(QUIET * 4, watch.changed()).await;
        assert!(told.is_err(), "told of a change that is none: {told:?}");
    }

    #[test]
    fn written_in_place_in_pieces_it_is_told_once_and_whole() {
        let case = Case::new("in-place");
        case.run(async |watch| {
            let mut file = fs::File::create(&case.file).unwrap();
            for piece in ["n", "e", "w"] {
                file.write_all(piece.as_bytes()).unwrap();
                sleep(QUIET / 4).await;
            }
            drop(file);
            assert_eq!(soon(watch).await, Ok("new".to_owned()));
            nothing(watch).await;
        });
    }

    #[test]
    fn a_file_still_open_for_writing_is_not_believed() {
        let case = Case::new("slow-writer");
        case.run(async |watch| {
            for before in [Ok("old".to_owned()), Err("it does not exist".to_owned())] {
                if before.is_err() {
                    fs::remove_file(&case.file).unwrap();
                    assert_eq!(soon(watch).await, before);
                }
                let mut file = fs::File::create(&case.file).unwrap();
                file.write_all(b"half").unwrap();
                let told = timeout(QUIET * 6, watch.changed()).await;
                assert!(told.is_err(), "told of a half-written file: {told:?}");
                file.write_all(b" and half").unwrap();
                drop(file);
                assert_eq!(soon(watch).await, Ok("half and half".to_owned()));
            }
        });
    }

    #[test]
    fn moved_over_twice_both_are_told() {
        let case = Case::new("moved");
        case.run(async |watch| {
            for text in ["new", "newer"] {
                fs::write(case.path("naru.toml.tmp"), text).unwrap();
                fs::rename(case.path("naru.toml.tmp"), &case.file).unwrap();
                assert_eq!(soon(watch).await, Ok(text.to_owned()));
            }
        });
    }

    #[test]
    fn the_same_text_again_is_no_change() {
        let case = Case::new("same");
        case.run(async |watch| {
            fs::write(&case.file, "old").unwrap();
            fs::write(case.path("another"), "file").unwrap();
            nothing(watch).await;
        });
    }

    #[test]
    fn deleted_is_told_and_so_is_the_return_of_the_same_text() {
        let case = Case::new("deleted");
        case.run(async |watch| {
            fs::remove_file(&case.file).unwrap();
            let error = soon(watch).await.unwrap_err();
            assert_eq!(error, "it does not exist");
            fs::write(&case.file, "old").unwrap();
            assert_eq!(soon(watch).await, Ok("old".to_owned()));
        });
    }

    #[test]
    fn an_editor_that_moves_the_old_file_away_first_is_one_change() {
        let case = Case::new("editor");
        case.run(async |watch| {
            fs::rename(&case.file, case.path("naru.toml~")).unwrap();
            sleep(QUIET / 4).await;
            fs::write(&case.file, "new").unwrap();
            assert_eq!(soon(watch).await, Ok("new".to_owned()));
            nothing(watch).await;
        });
    }

    #[test]
    fn swapped_links_of_a_mounted_volume_are_followed_every_time() {
        let case = Case::new("volume");
        for (version, text) in [("..1", "old"), ("..2", "new"), ("..3", "newer")] {
            fs::create_dir(case.path(version)).unwrap();
            fs::write(case.path(version).join("naru.toml"), text).unwrap();
        }
        symlink("..1", case.path("..data")).unwrap();
        symlink("..data/naru.toml", &case.file).unwrap();
        case.run(async |watch| {
            for (version, text) in [("..2", "new"), ("..3", "newer")] {
                symlink(version, case.path("..data_tmp")).unwrap();
                fs::rename(case.path("..data_tmp"), case.path("..data")).unwrap();
                assert_eq!(soon(watch).await, Ok(text.to_owned()));
            }
        });
    }

    #[test]
    fn the_target_of_a_link_is_watched_where_it_lies() {
        let case = Case::new("link");
        for elsewhere in ["elsewhere", "further"] {
            fs::create_dir(case.path(elsewhere)).unwrap();
            fs::write(case.path(elsewhere).join("real.toml"), "old").unwrap();
        }
        symlink("elsewhere/real.toml", &case.file).unwrap();
        case.run(async |watch| {
            fs::write(case.path("elsewhere/real.toml"), "new").unwrap();
            assert_eq!(soon(watch).await, Ok("new".to_owned()));
            fs::remove_file(&case.file).unwrap();
            symlink("further/real.toml", &case.file).unwrap();
            assert_eq!(soon(watch).await, Ok("old".to_owned()));
            fs::write(case.path("further/real.toml"), "newest").unwrap();
            assert_eq!(soon(watch).await, Ok("newest".to_owned()));
        });
    }

    #[test]
    fn a_folder_replaced_as_a_whole_is_seen_by_the_slow_look() {
        let case = Case::new("folder");
        fs::create_dir(case.path("etc")).unwrap();
        let file = case.path("etc/naru.toml");
        fs::write(&file, "old").unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let mut watch = Watch::open(&file, "old".to_owned()).unwrap();
                fs::remove_dir_all(case.path("etc")).unwrap();
                soon(&mut watch).await.unwrap_err();
                fs::create_dir(case.path("etc")).unwrap();
                fs::write(&file, "new").unwrap();
                let text = timeout(LOOK * 3, watch.changed())
                    .await
                    .expect("the change was not seen");
                assert_eq!(text, Ok("new".to_owned()));
                fs::write(&file, "newer").unwrap();
                assert_eq!(soon(&mut watch).await, Ok("newer".to_owned()));
            });
    }

    #[test]
    fn a_missing_folder_is_an_error_at_once() {
        let missing = std::env::temp_dir().join(format!("naru-config-missing-{}/naru.toml", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let error = runtime
            .block_on(async { Watch::open(&missing, String::new()).err() })
            .unwrap();
        assert!(format!("{error:#}").contains("watch folder"), "{error:#}");
    }
}
