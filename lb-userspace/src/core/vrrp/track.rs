//! What the things that an instance watches make of its priority.
//!
//! Whether each is well is for those who know: health, the network's picture, a program's exit code.

use std::fmt;
use std::time::Duration;

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub what: Watched,
    /// Added to the priority while it is not well. 0: the instance is at fault then.
    pub weight: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Not well while it is down.
    Service(String),
    /// Not well without carrier.
    Interface(String),
    /// Not well while it exits with anything but 0.
    Program(Program),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// And its arguments.
    pub command: Vec<String>,
    pub every: Duration,
    pub timeout: Duration,
    /// Failures in a row until it is not well, successes until it is.
    pub fall: u32,
    pub rise: u32,
}

/// What all that is watched comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// To the priority.
    pub sum: i32,
    /// Why the instance can be neither master nor backup.
    pub fault: Option<String>,
    /// Clients would find nobody here: any node where they find somebody is the better master.
    pub is_unfit: bool,
    /// What is not well, for people.
    pub why: String,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name:?} is down"),
            Self::Interface(name) => write!(f, "{name} is down"),
            Self::Program(program) => write!(f, "{} fails", program.command.join(" ")),
        }
    }
}

pub fn tracked(tracks: &[Track], is_well: impl Fn(&Watched) -> bool) -> Tracked {
    let ill: Vec<&Track> = tracks.iter().filter(|track| !is_well(&track.what)).collect();
    let words: Vec<String> = ill.iter().map(|track| track.what.to_string()).collect();
    let fault = ill.iter().find(|track| track.weight == 0);
    Tracked {
        sum: ill.iter().map(|track| i32::from(track.weight)).sum(),
        fault: fault.map(|track| track.what.to_string()),
        is_unfit: false,
        why: words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_what_is_not_well_add_up() {
        let track = |name: &str, weight| Track {
            what: Watched::Service(name.to_owned()),
            weight,
        };
        let tracks = [track("web", -60), track("db", -30), track("mail", 0)];
        let of = |ill: &[&str]| {
            tracked(&tracks, |what| match what {
                Watched::Service(name) => !ill.contains(&name.as_str()),
                Watched::Interface(_) | Watched::Program(_) => unreachable!(),
            })
        };
        assert_eq!(of(&[]), Tracked::default());
        let both = of(&["web", "db"]);
        assert_eq!((both.sum, both.fault), (-90, None));
        assert_eq!(both.why, "service \"web\" is down, service \"db\" is down");
        assert_eq!(of(&["mail"]).fault.unwrap(), "service \"mail\" is down");
    }
}
