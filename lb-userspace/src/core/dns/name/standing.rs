//! How a name stands, in words and figures; changes nothing. Tested by the scenarios, which show it.

use std::time::SystemTime;

use super::{MAX_RECORDS, Name};
use crate::core::dns::{Last, Record, Set, Standing, Wanted};

impl Name {
    pub fn standing(&self) -> Standing {
        Standing {
            trouble: self.trouble(),
            since: self.since,
            next: self.schedule.next(),
            last: self.last,
            found_as: self.found_as.clone(),
            answered_at: self.answered_at,
            records: self.named().map(|(record, rank)| (record.clone(), rank)).collect(),
            missing: self.missing().cloned().collect(),
            before: self.before.clone(),
        }
    }

    fn missing(&self) -> impl Iterator<Item = &Record> {
        let missing = self.members.iter().filter(|(_, member)| member.missing.is_some());
        missing.map(|(record, _)| record)
    }

    /// None: all is well.
    pub(super) fn trouble(&self) -> Option<String> {
        let (one, many) = match self.wanted {
            Wanted::Addresses => ("address", "addresses"),
            Wanted::Targets => ("target", "targets"),
        };
        let kept = match self.members.len() {
            0 => String::new(),
            1 => format!("; keeping its {one}"),
            _ => format!("; keeping its {many}"),
        };
        match (&self.failure, self.empty) {
            (Some(why), _) => Some(format!("{why}{kept}")),
            (None, Some(empty)) => Some(format!("{}{kept}", empty.what)),
            (None, None) if self.left_out > 0 => Some(format!(
                "has more than {MAX_RECORDS} {many}; {} are left out",
                self.left_out
            )),
            (None, None) if self.answered => None,
            (None, None) => Some("no answer yet".to_owned()),
        }
    }

    /// What is to be recalled after another start.
    pub fn set(&self) -> Option<Set> {
        let records: Vec<_> = self.named().map(|(record, rank)| (record.clone(), rank)).collect();
        let at = self.answered_at.filter(|_| !records.is_empty())?;
        Some(Set {
            at,
            records,
            found_as: self.found_as.clone(),
        })
    }

    /// The last answer, if it was no authority's, and when it ends.
    pub fn passed_on(&self) -> Option<(Last, SystemTime)> {
        let last = self.last.filter(|last| !last.authoritative)?;
        Some((last, self.answered_at? + last.ttl))
    }
}
