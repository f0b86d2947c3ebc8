//! The kernel's side as a value: what the maps and interfaces hold, or should hold, and the steps between.
//!
//! Types only; `core::plan` finds the steps, `io::bpf` takes them and reads the state back.

use std::collections::BTreeMap;

use lb_common::abi::{self, BackendId, Listen, ServiceId};

use super::config::Xdp;
use super::network::Prefix;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    pub listens: BTreeMap<Listen, abi::Service>,
    pub slots: BTreeMap<ServiceId, Vec<BackendId>>,
    pub backends: BTreeMap<BackendId, abi::Backend>,
    pub routes: BTreeMap<Prefix, abi::Route>,
    /// Interfaces by index with our program on them.
    pub attached: BTreeMap<u32, Attachment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The pin of the link is named after the interface.
    pub interface: String,
    pub mode: Xdp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    PutRoute(Prefix, abi::Route),
    RemoveRoute(Prefix),
    PutBackend(BackendId, abi::Backend),
    RemoveBackend(BackendId),
    PutSlots(ServiceId, Vec<BackendId>),
    RemoveSlots(ServiceId),
    PutListen(Listen, abi::Service),
    RemoveListen(Listen),
    Attach(u32, Attachment),
    Detach(u32),
}
