//! Instances that are master together or not at all; one alone is a group of itself.
//!
//! Knows only what its members say of themselves. Tested by the stories `group_*` in `tests/it/vrrp`.

use std::collections::BTreeMap;

use super::command::Command;
use super::machine::Machine;
use super::settings::Key;
use crate::core::world::Moment;

/// Which instances belong together.
pub fn units(instances: &BTreeMap<Key, Machine>) -> Vec<Vec<Key>> {
    let mut units: BTreeMap<Result<&str, &Key>, Vec<Key>> = BTreeMap::new();
    for (key, machine) in instances {
        let unit = machine.settings().group.as_deref().ok_or(key);
        units.entry(unit).or_default().push(key.clone());
    }
    units.into_values().collect()
}

/// What the members of a unit do because of each other.
pub fn unite(members: &mut [&mut Machine], now: Moment, out: &mut Vec<Command>) {
    share_faults(members, now, out);
    let falls = members.iter_mut().filter_map(|member| {
        let why = member.take_fall()?;
        Some((member.settings().name.clone(), why))
    });
    if let Some((name, why)) = falls.collect::<Vec<_>>().first() {
        for member in members.iter_mut().filter(|member| member.settings().name != *name) {
            member.follow(&format!("with {name}: {why}"), now, out);
        }
    }
    if members.iter().all(|member| member.wants(now.monotonic)) {
        for member in members.iter_mut().filter(|member| member.is_backup()) {
            member.claim(now.monotonic, out);
        }
    }
    if members.iter().all(|member| member.may_own(now.monotonic)) {
        for member in members.iter_mut() {
            member.own(now, out);
        }
    }
}

fn share_faults(members: &mut [&mut Machine], now: Moment, out: &mut Vec<Command>) {
    let faults: Vec<Option<String>> = members
        .iter()
        .map(|member| {
            Some(format!(
                "{} is at fault: {}",
                member.settings().name,
                member.own_fault()?
            ))
        })
        .collect();
    for (at, member) in members.iter_mut().enumerate() {
        let mut others = faults.iter().enumerate().filter(|(other, _)| *other != at);
        let held = others.find_map(|(_, fault)| fault.clone());
        member.hold(held, now, out);
    }
}
