//! Where names led, as a text that another daemon reads after this one.
//!
//! Whether a record can be used is looked at when it is taken up, as with those of an answer. Tested here.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Question, Rank, Record};
use crate::core::keeping::{Keep, text, understand};

const FORMAT: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub BTreeMap<Question, Set>);

/// What the last good answers about a name had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub at: SystemTime,
    pub records: Vec<(Record, Rank)>,
    /// In whatever search.
    pub found_as: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    names: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: Question,
    at: SystemTime,
    records: Vec<(Record, Rank)>,
    #[serde(default)]
    found_as: Option<String>,
}

impl Keep for Known {
    const LOST: &'static str = "where names led before this start is not known";
    const WILL_BE_LOST: &'static str = "where names lead will not be known after a restart";

    fn write(&self) -> String {
        let row = |(name, set): (&Question, &Set)| Row {
            name: name.clone(),
            at: set.at,
            records: set.records.clone(),
            found_as: set.found_as.clone(),
        };
        let names = self.0.iter().map(row).collect();
        text(FORMAT, Document { names })
    }

    fn read(text: &[u8]) -> Result<Self, String> {
        let document: Document = understand(FORMAT, text)?;
        let row = |row: Row| {
            let set = Set {
                at: row.at,
                records: row.records,
                found_as: row.found_as,
            };
            (row.name, set)
        };
        Ok(Self(document.names.into_iter().map(row).collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::core::dns::{Family, Target, Wanted};

    fn known() -> Known {
        let at = UNIX_EPOCH + Duration::from_millis(1_767_225_600_123);
        let target = Target {
            host: "a.example".to_owned(),
            port: 8081,
        };
        let rank = Rank {
            priority: 10,
            weight: 65_535,
        };
        let addresses = ["198.18.1.11", "2001:db8::1"].map(|text| Record::Address(text.parse().unwrap()));
        Known(BTreeMap::from([
            (
                Question::new("app.example", Family::Ipv4, Wanted::Addresses),
                Set {
                    at,
                    records: addresses.map(|address| (address, Rank::default())).to_vec(),
                    found_as: Some("app.example.search".to_owned()),
                },
            ),
            (
                Question::new("_http._tcp.app.example", Family::Ipv6, Wanted::Targets),
                Set {
                    at,
                    records: vec![(Record::Target(target), rank)],
                    found_as: None,
                },
            ),
        ]))
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for known in [Known::default(), known()] {
            assert_eq!(Known::read(known.write().as_bytes()), Ok(known));
        }
    }

    /// A cut anywhere, as by a full disk, or a changed byte: an error or another whole record, never a panic.
    #[test]
    fn damage_is_told() {
        let whole = known().write();
        let text = whole.trim_end().as_bytes();
        for end in 0..text.len() {
            let error = Known::read(&text[..end]).unwrap_err();
            assert!(error.starts_with("it is damaged: "), "{error}");
        }
        for at in 0..text.len() {
            let mut bytes = text.to_vec();
            bytes[at] = 0xff;
            let _either = Known::read(&bytes);
        }
    }
}
