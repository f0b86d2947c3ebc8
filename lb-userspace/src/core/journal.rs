//! What has changed, in order: the last thousand entries, for the log and for `naru events`.
//!
//! Counts what it has ever written, so that a reader finds where it stopped.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::alarm::News;
use super::condition::State;
use super::members::Name;

const KEPT: usize = 1000;

#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    written: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: SystemTime,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Backend {
        name: Name,
        /// Of a backend that has a name, which may be several.
        address: Option<SocketAddr>,
        /// None: it is new.
        from: Option<State>,
        to: State,
        reason: String,
    },
    /// An override began to hold again, or ended by itself.
    Override {
        name: Name,
        text: String,
    },
    /// The name of a backend has other addresses, or cannot be resolved, or can be again.
    Resolved {
        name: Name,
        text: String,
    },
    Alarm(News),
    /// An address that this node shares: who has it now, or that something is wrong with it.
    Shared {
        instance: String,
        text: String,
        trouble: bool,
    },
    /// The node as a whole.
    Node(String),
    /// What a new file has done to a service that its writer may not have meant.
    File {
        service: String,
        text: String,
    },
}

impl What {
    /// The backend of the file that it is about.
    pub fn backend(&self) -> Option<&Name> {
        match self {
            Self::Backend { name, .. } | Self::Override { name, .. } | Self::Resolved { name, .. } => Some(name),
            Self::Alarm(_) | Self::Shared { .. } | Self::Node(_) | Self::File { .. } => None,
        }
    }
}

impl Journal {
    pub fn write(&mut self, at: SystemTime, what: What) {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at, what });
        self.written += 1;
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many entries there have ever been.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Those written since that count, as far as they are kept.
    pub fn since(&self, written: u64) -> impl Iterator<Item = &Entry> {
        let new = usize::try_from(self.written.saturating_sub(written)).unwrap_or(usize::MAX);
        self.entries.iter().skip(self.entries.len().saturating_sub(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept_and_a_reader_finds_its_place() {
        let mut journal = Journal::default();
        for number in 0..1500 {
            journal.write(SystemTime::UNIX_EPOCH, What::Node(number.to_string()));
        }
        let text = |entry: &Entry| match &entry.what {
            What::Node(text) => text.clone(),
            What::Backend { .. }
            | What::Override { .. }
            | What::Resolved { .. }
            | What::Alarm(_)
            | What::File { .. }
            | What::Shared { .. } => String::new(),
        };
        assert_eq!(journal.entries().count(), 1000);
        assert_eq!(journal.entries().next().map(text), Some("500".to_owned()));
        assert_eq!(journal.since(1498).map(text).collect::<Vec<_>>(), ["1498", "1499"]);
        assert_eq!(journal.since(0).count(), 1000);
        assert_eq!(journal.since(journal.written()).count(), 0);
    }
}
