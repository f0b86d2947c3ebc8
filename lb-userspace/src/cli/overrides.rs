//! `naru disable`, `enable`, `drain`, `undrain`, `weight`: an operator's word over the file's.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, say};
use crate::core::config::MAX_WEIGHT;
use crate::io::control::{Request, Target};

/// Take a backend out of service at once, as if it were down.
///
/// It gets no new flows. The TCP connections it has are reset where the service says `on_down = "reset"`, else they may
/// finish; its UDP flows go to other backends. Holds, also after a restart, until `naru enable` or until the file says
/// something else about the backend.
#[derive(Debug, Args)]
pub struct Disable {
    #[arg(value_name = "SERVICE/BACKEND")]
    pub target: Target,
}

/// Take a disable back.
#[derive(Debug, Args)]
pub struct Enable {
    #[arg(value_name = "SERVICE/BACKEND")]
    pub target: Target,
}

/// Give a backend no new flows; those that are there may finish.
///
/// A TCP connection may take as long as it likes, a UDP flow the idle timeout of the service. Holds, also after a
/// restart, until `naru undrain` or until the file says something else about the backend.
#[derive(Debug, Args)]
pub struct Drain {
    #[arg(value_name = "SERVICE/BACKEND")]
    pub target: Target,
}

/// Take a drain back.
#[derive(Debug, Args)]
pub struct Undrain {
    #[arg(value_name = "SERVICE/BACKEND")]
    pub target: Target,
}

/// Give a backend another weight, up to 1000; 0 means no new flows.
///
/// Holds, also after a restart, until the weight of the file is given again or until the file says something else about
/// the backend. While it holds, alarms do not change the weight of this backend.
#[derive(Debug, Args)]
pub struct Weight {
    #[arg(value_name = "SERVICE/BACKEND")]
    pub target: Target,
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_WEIGHT)))]
    pub weight: u16,
}

pub fn disable(socket: &Path, Disable { target }: Disable) -> Exit {
    change("disable", socket, &Request::Disable { target })
}

pub fn enable(socket: &Path, Enable { target }: Enable) -> Exit {
    change("enable", socket, &Request::Enable { target })
}

pub fn drain(socket: &Path, Drain { target }: Drain) -> Exit {
    change("drain", socket, &Request::Drain { target })
}

pub fn undrain(socket: &Path, Undrain { target }: Undrain) -> Exit {
    change("undrain", socket, &Request::Undrain { target })
}

pub fn weight(socket: &Path, Weight { target, weight }: Weight) -> Exit {
    change("weight", socket, &Request::Weight { target, weight })
}

/// The daemon answers with one sentence about what is so now.
fn change(command: &str, socket: &Path, request: &Request) -> Exit {
    match ask::<String>(command, socket, request) {
        Ok(outcome) => say(&outcome),
        Err(exit) => exit,
    }
}
