//! Overrides as a text that another daemon reads after this one.
//!
//! Half of what an operator said may be worse than nothing. Tested here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Override, Overrides, Said, Word};
use crate::core::config::MAX_WEIGHT;
use crate::core::keeping::{Keep, text, understand};
use crate::core::members::Name;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    overrides: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    service: String,
    backend: String,
    disable: Option<Said>,
    drain: Option<Said>,
    weight: Option<(u16, Said)>,
    file: Word,
}

impl Keep for Overrides {
    const LOST: &'static str = "overrides of before this start are not in force";
    const WILL_BE_LOST: &'static str = "overrides will not hold after a restart";

    fn write(&self) -> String {
        let row = |(name, said): (&Name, &Override)| Row {
            service: name.service.clone(),
            backend: name.backend.clone(),
            disable: said.disable.clone(),
            drain: said.drain.clone(),
            weight: said.weight.clone(),
            file: said.file.clone(),
        };
        let overrides = self.iter().map(row).collect();
        text(FORMAT, Record { overrides })
    }

    fn read(text: &[u8]) -> Result<Self, String> {
        let record: Record = understand(FORMAT, text)?;
        let mut overrides = BTreeMap::new();
        for row in record.overrides {
            if let Some((weight, _)) = row.weight.as_ref().filter(|(weight, _)| *weight > MAX_WEIGHT) {
                return Err(format!("it is damaged: weight {weight} is not in 0..={MAX_WEIGHT}"));
            }
            let name = Name {
                service: row.service,
                backend: row.backend,
            };
            let said = Override {
                disable: row.disable,
                drain: row.drain,
                weight: row.weight,
                file: row.file,
            };
            overrides.insert(name, said);
        }
        Ok(Self(overrides))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::core::config::{Config, parse};
    use crate::core::overrides::Change;

    fn config() -> Config {
        let file = "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\", \"198.18.1.12:80\"]\n";
        parse("naru.toml", file).unwrap().config
    }

    fn overrides() -> Overrides {
        let mut overrides = Overrides::default();
        let mut say = |backend: &str, change, by: &str, at| {
            let name = Name {
                service: "web".to_owned(),
                backend: backend.to_owned(),
            };
            let said = Said {
                by: by.to_owned(),
                at: UNIX_EPOCH + Duration::from_millis(at),
            };
            overrides.change(name, change, said, &config());
        };
        say("198.18.1.11:80", Change::Disable, "root", 1_767_225_600_123);
        say("198.18.1.11:80", Change::Weight(7), "uid 1000", 1_767_225_601_000);
        say("198.18.1.12:80", Change::Drain, "\"q\" \u{1f600}\n", 0);
        overrides
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for overrides in [Overrides::default(), overrides()] {
            assert_eq!(Overrides::read(overrides.write().as_bytes()), Ok(overrides));
        }
    }

    /// A cut anywhere, as by a full disk, or a changed byte: an error or another whole record, never a panic.
    #[test]
    fn damage_is_told() {
        let whole = overrides().write();
        let text = whole.trim_end().as_bytes();
        for end in 0..text.len() {
            let error = Overrides::read(&text[..end]).unwrap_err();
            assert!(error.starts_with("it is damaged: "), "{error}");
        }
        for at in 0..text.len() {
            for byte in [b'#', 0xff] {
                let mut bytes = text.to_vec();
                bytes[at] = byte;
                let _either = Overrides::read(&bytes);
            }
        }
        let error = Overrides::read(whole.replace("7,", "1001,").as_bytes()).unwrap_err();
        assert_eq!(error, "it is damaged: weight 1001 is not in 0..=1000");
        let error = Overrides::read(whole.replace("\"drain\"", "\"dain\"").as_bytes()).unwrap_err();
        assert!(error.contains("unknown field `dain`"), "{error}");
    }

    #[test]
    fn a_later_format_is_told_by_its_number() {
        let error = Overrides::read(b"{ \"format\": 2, \"overrides\": {} }").unwrap_err();
        assert_eq!(error, "another version of naru has written it (format 2, not 1)");
    }
}
