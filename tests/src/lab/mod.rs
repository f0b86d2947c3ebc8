//! The network lab: cases on real namespaces, with real servers and clients, around the real daemon.
//!
//! Never touches the network it is started from; everything made here goes when its owner is dropped, and `case`
//! fails when something stays. How to write a case: docs/testing.md. Tested by tests/it/lab.

mod advert_watch;
mod arp_watch;
mod asker;
mod bind;
mod bulk;
mod caller;
mod capture;
mod client;
mod containers;
mod crowd;
mod database;
mod dig;
mod few_tasks;
mod flood;
mod keepalived;
mod knot;
mod mariadb;
mod name_server;
mod namespace;
mod naru;
mod nginx;
mod packet_socket;
mod pair;
mod poll;
mod postgres;
mod process;
mod repeater;
mod residue;
mod session;
mod stranger;
mod tap;
mod topology;
mod transfers;
mod twins;
mod udp;
mod unbound;
mod xdp;

use std::any::type_name;
use std::ffi::OsStr;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::{fs, io};

use anyhow::{Context as _, Result};

pub use advert_watch::AdvertWatch;
pub use arp_watch::ArpWatch;
pub use asker::Asker;
pub use bind::Bind;
pub use bulk::{Bulk, BulkServer, Transfer};
pub use caller::Caller;
pub use capture::{Capture, Dissected};
pub use client::{Connection, Load, Running, Tally, get};
pub use containers::{Containers, NodeDevice};
pub use crowd::Crowd;
pub use dig::dig;
pub use few_tasks::FewTasks;
pub use flood::SynFlood;
pub use keepalived::Keepalived;
pub use knot::Knot;
pub use mariadb::MariaDb;
pub use name_server::{Manner, NameServer, Record};
pub use namespace::Namespace;
pub use naru::{Ended, Naru, built};
pub use nginx::{BIG_FILE, Nginx};
pub use pair::{MariaPair, Moved, PostgresPair, READS, WRITE, WRITES, WRITTEN};
pub use poll::{until, until_true};
pub use postgres::{CHECKER, CHECKER_PASSWORD, Postgres};
pub use process::{Process, stdout};
pub use repeater::Repeater;
pub use session::{Session, Speech, WRITER};
pub use stranger::{Forged, Recorder, Stranger};
pub use topology::{BACKEND_PORT, FAR, FAR6, Topology, VIP, VIP6, backend_address, backend_address6, cable};
pub use transfers::{Outcome, Transfers};
pub use twins::Twins;
pub use udp::{UdpEcho, UdpFlow, udp_exchange};
pub use unbound::Unbound;
pub use xdp::PassProgram;

/// One lab: a mark for all it makes, and a folder for its files. Logs in there are shown when the case fails.
pub struct Lab {
    id: String,
    folder: PathBuf,
}

impl Lab {
    pub fn new() -> Result<Self> {
        static CLEANED: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        CLEANED.call_once(residue::remove_leftovers);

        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = residue::folder(&id);
        fs::create_dir(&folder).with_context(|| format!("make folder {}", folder.display()))?;
        Ok(Self { id, folder })
    }

    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        Namespace::new(&self.id, role)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The pins of the node in the namespace called `role`.
    pub fn pin_folder(&self, role: &str) -> PathBuf {
        residue::pin_folder(&self.id, role)
    }

    /// A command outside of the lab's namespaces, but of the lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        process::command(&self.id, program)
    }

    /// What the daemons and servers said.
    pub fn show_logs(&self) {
        let entries = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let mut logs: Vec<_> = entries
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect();
        logs.sort();
        for log in logs {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if !text.is_empty() {
                println!("--- {}\n{text}", log.display());
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs one case, alone: they measure time, and two cores are soon full. Fails when the case fails, or leaves
/// something behind, or changed the network of the host. Without root it only says that it is skipped.
pub fn case<F: FnOnce(&Lab) -> Result<()>>(run: F) {
    static TURN: Mutex<()> = Mutex::new(());
    let name = type_name::<F>().trim_end_matches("::{{closure}}");
    if skipped(name) {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);

    let before = residue::host_picture().expect("the host's network can be read");
    let lab = Lab::new().expect("a lab can be made");
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&lab)));
    if !matches!(outcome, Ok(Ok(()))) {
        lab.show_logs();
    }
    let id = lab.id.clone();
    drop(lab);
    let left: Vec<_> = residue::remove_of(&id).iter().map(ToString::to_string).collect();
    let after = residue::host_picture().expect("the host's network can be read");

    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(Err(error)) => panic!("{error:#}"),
        Ok(Ok(())) => {}
    }
    assert!(left.is_empty(), "the case left {left:?}");
    assert_eq!(before, after, "the case changed the network of the host");
}

/// A size: the usual one, or the one of `cargo xtask lab --long`.
pub fn sized<T>(usual: T, long: T) -> T {
    if std::env::var_os("NARU_LONG").is_some() {
        long
    } else {
        usual
    }
}

/// Without root there is no lab; says so.
pub fn skipped(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        note(&format!("SKIP {name}: needs root"));
    }
    !root
}

/// A line for whoever watches the run; the test runner captures `println!` only.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
