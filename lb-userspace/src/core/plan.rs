//! Finds the steps from the actual state to the desired one, in an order whose every prefix is safe, and takes them
//! one by one through whoever has the hands for it.
//!
//! Safe: no packet can find a listen without a slot table, a slot whose backend is not there, or one that belongs to
//! another service. Stopping anywhere leaves a kernel that forwards, by the old state or the new.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lb_common::abi::{self, BackendId, ServiceId};

use super::kernel::{Action, KernelState};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub action: Action,
    pub error: String,
}

pub fn diff(actual: &KernelState, desired: &KernelState) -> Vec<Action> {
    let mut plan = Plan {
        model: actual.clone(),
        actions: Vec::new(),
    };
    plan.free_ids(desired);
    plan.put(desired);
    plan.remove(desired);
    plan.attach(desired);
    plan.actions
}

/// Takes the steps to `desired` by `take` and keeps `actual` true. A step that fails stays out of `actual`, so it
/// is planned again next time; one that would be unsafe for want of it is left out.
pub fn carry_out<E: fmt::Display>(
    actual: &mut KernelState,
    desired: &KernelState,
    mut take: impl FnMut(&Action) -> Result<(), E>,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    for action in diff(actual, desired) {
        if !actual.allows(&action) {
            continue;
        }
        match take(&action) {
            Ok(()) => actual.apply(&action),
            Err(error) => failures.push(Failure {
                error: format!("{error:#}"),
                action,
            }),
        }
    }
    failures
}

struct Plan {
    model: KernelState,
    actions: Vec<Action>,
}

impl Plan {
    fn step(&mut self, action: Action) {
        self.model.apply(&action);
        self.actions.push(action);
    }

    /// An id that passes to another service or backend is named by nobody in between. `World` gives no id out anew
    /// before its last owner is gone; this is for a kernel that something else has changed.
    fn free_ids(&mut self, desired: &KernelState) {
        let after = owners(desired);
        let passed = |id: &ServiceId, owner: &u64| after.get(id).is_some_and(|next| next != owner);
        let services = owners(&self.model)
            .into_iter()
            .filter(|(id, owner)| passed(id, owner))
            .map(|(id, _)| id);
        let passed_on = self.model.backends.iter().filter(|(id, before)| {
            let after = desired.backends.get(id);
            after.is_some_and(|after| !same_owner(before, after))
        });
        let passed_on: BTreeSet<BackendId> = passed_on.map(|(&id, _)| id).collect();
        // Nearly always none, and the slots of all services are many.
        let names_passed = |slots: &[BackendId]| !passed_on.is_empty() && slots.iter().any(|id| passed_on.contains(id));
        let naming = self
            .model
            .slots
            .iter()
            .filter(|(_, slots)| names_passed(slots))
            .map(|(&service, _)| service);
        let stopped: BTreeSet<ServiceId> = services.chain(naming).collect();
        for (listen, service) in self.model.listens.clone() {
            if stopped.contains(&service.id) {
                self.step(Action::RemoveListen(listen));
            }
        }
        let tables = self
            .model
            .slots
            .keys()
            .copied()
            .filter(|service| stopped.contains(service));
        self.remove_slots(tables.collect());
    }

    fn put(&mut self, desired: &KernelState) {
        for (prefix, route) in changed(&self.model.routes, &desired.routes) {
            self.step(Action::PutRoute(prefix, route));
        }
        for (id, backend) in changed(&self.model.backends, &desired.backends) {
            self.step(Action::PutBackend(id, backend));
        }
        let tables = changed(&self.model.slots, &desired.slots);
        if !tables.is_empty() {
            self.step(Action::PutSlots(tables.into_iter().collect()));
        }
        for (address, lease) in changed(&self.model.shared, &desired.shared) {
            self.step(Action::PutShared(address, lease));
        }
        for (listen, service) in changed(&self.model.listens, &desired.listens) {
            self.step(Action::PutListen(listen, service));
        }
    }

    fn remove(&mut self, desired: &KernelState) {
        for listen in gone(&self.model.listens, &desired.listens) {
            self.step(Action::RemoveListen(listen));
        }
        for address in gone(&self.model.shared, &desired.shared) {
            self.step(Action::RemoveShared(address));
        }
        self.remove_slots(gone(&self.model.slots, &desired.slots).into_iter().collect());
        for id in gone(&self.model.backends, &desired.backends) {
            self.step(Action::RemoveBackend(id));
        }
        for prefix in gone(&self.model.routes, &desired.routes) {
            self.step(Action::RemoveRoute(prefix));
        }
    }

    fn remove_slots(&mut self, services: BTreeSet<ServiceId>) {
        if !services.is_empty() {
            self.step(Action::RemoveSlots(services));
        }
    }

    /// New interfaces first, so that no moment has none; but what changes on one interface is let go before.
    fn attach(&mut self, desired: &KernelState) {
        for (ifindex, on) in self.model.attached.clone() {
            let renamed = desired
                .attached
                .get(&ifindex)
                .filter(|after| after.mode == on.mode && **after != on);
            if let Some(renamed) = renamed {
                self.step(Action::Rename(ifindex, renamed.clone()));
            }
        }
        let left = self.model.attached.clone().into_iter();
        let left = left.filter(|(ifindex, attachment)| desired.attached.get(ifindex) != Some(attachment));
        let (first, last): (Vec<_>, Vec<_>) = left.partition(|(ifindex, _)| desired.attached.contains_key(ifindex));
        for (ifindex, _) in first {
            self.step(Action::Detach(ifindex));
        }
        for (ifindex, attachment) in changed(&self.model.attached, &desired.attached) {
            self.step(Action::Attach(ifindex, attachment));
        }
        for (ifindex, _) in last {
            self.step(Action::Detach(ifindex));
        }
    }
}

fn owners(state: &KernelState) -> BTreeMap<ServiceId, u64> {
    state
        .listens
        .values()
        .map(|service| (service.id, service.fingerprint))
        .collect()
}

fn same_owner(one: &abi::Backend, other: &abi::Backend) -> bool {
    (one.fingerprint, one.service) == (other.fingerprint, other.service)
}

fn changed<K: Ord + Copy, V: PartialEq + Clone>(actual: &BTreeMap<K, V>, desired: &BTreeMap<K, V>) -> Vec<(K, V)> {
    let differs = |(key, value): &(&K, &V)| actual.get(key) != Some(value);
    desired
        .iter()
        .filter(differs)
        .map(|(key, value)| (*key, value.clone()))
        .collect()
}

fn gone<K: Ord + Copy, V>(actual: &BTreeMap<K, V>, desired: &BTreeMap<K, V>) -> Vec<K> {
    actual
        .keys()
        .filter(|key| !desired.contains_key(key))
        .copied()
        .collect()
}

impl KernelState {
    /// What the action makes of this state.
    pub fn apply(&mut self, action: &Action) {
        match action.clone() {
            Action::PutRoute(prefix, route) => drop(self.routes.insert(prefix, route)),
            Action::RemoveRoute(prefix) => drop(self.routes.remove(&prefix)),
            Action::PutBackend(id, backend) => drop(self.backends.insert(id, backend)),
            Action::RemoveBackend(id) => drop(self.backends.remove(&id)),
            Action::PutSlots(tables) => self.slots.extend(tables),
            Action::RemoveSlots(services) => self.slots.retain(|service, _| !services.contains(service)),
            Action::PutShared(address, lease) => drop(self.shared.insert(address, lease)),
            Action::RemoveShared(address) => drop(self.shared.remove(&address)),
            Action::PutListen(listen, service) => drop(self.listens.insert(listen, service)),
            Action::RemoveListen(listen) => drop(self.listens.remove(&listen)),
            Action::Attach(ifindex, attachment) | Action::Rename(ifindex, attachment) => {
                drop(self.attached.insert(ifindex, attachment));
            }
            Action::Detach(ifindex) => drop(self.attached.remove(&ifindex)),
        }
    }

    /// Whether a safe state stays safe.
    pub fn allows(&self, action: &Action) -> bool {
        let named = |id, service| self.slots.get(&service).is_some_and(|slots| slots.contains(&id));
        match action {
            Action::PutBackend(id, new) => self
                .backends
                .get(id)
                .is_none_or(|old| same_owner(old, new) || !named(*id, old.service)),
            Action::RemoveBackend(id) => self.backends.get(id).is_none_or(|old| !named(*id, old.service)),
            Action::PutSlots(tables) => tables.iter().all(|(service, slots)| {
                let named: BTreeSet<&BackendId> = slots.iter().collect();
                let serves = |id| self.backends.get(id).is_some_and(|backend| backend.service == *service);
                named.into_iter().all(serves)
            }),
            Action::RemoveSlots(services) => {
                let listened = |listen: &abi::Service| services.contains(&listen.id);
                !self.listens.values().any(listened)
            }
            Action::PutListen(_, new) => self.slots.contains_key(&new.id),
            Action::Attach(..)
            | Action::Rename(..)
            | Action::Detach(_)
            | Action::PutRoute(..)
            | Action::RemoveRoute(_)
            | Action::PutShared(..)
            | Action::RemoveShared(_)
            | Action::RemoveListen(_) => true,
        }
    }
    /// What a packet could meet that it must not, if anything.
    pub fn unsafe_reason(&self) -> Option<String> {
        for (service, slots) in &self.slots {
            for id in slots.iter().collect::<BTreeSet<_>>() {
                match self.backends.get(id) {
                    None => {
                        return Some(format!(
                            "a slot of service {service} names backend {id}, which is not there"
                        ));
                    }
                    Some(backend) if backend.service != *service => {
                        return Some(format!(
                            "a slot of service {service} names backend {id} of {}",
                            backend.service
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        let owners = owners(self);
        for (listen, service) in &self.listens {
            let id = service.id;
            if !self.slots.contains_key(&id) {
                return Some(format!("{listen:?} leads to service {id}, which has no slot table"));
            }
            if owners[&id] != service.fingerprint {
                return Some(format!("two services have the id {id}"));
            }
        }
        None
    }
}
