//! Asks the daemon on behalf of a command, and says why when that fails.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::{Exit, complain};
use crate::io::control::{self, AskError, Request};

/// `command` as the operator typed it; the error is how to end, the reason is on stderr already.
pub fn ask<T: DeserializeOwned>(command: &str, socket: &Path, request: &Request) -> Result<T, Exit> {
    let answer = control::ask(socket, request).map_err(|error| {
        complain(format_args!("naru {command}: {error}"));
        if matches!(error, AskError::Refused(_)) {
            Exit::Refused
        } else {
            Exit::Unreadable
        }
    })?;
    serde_json::from_value(answer).map_err(|error| {
        complain(format_args!(
            "naru {command}: the daemon's answer is not understood ({error}); is it another version?"
        ));
        Exit::Unreadable
    })
}
