//! What tests do to a flow table from outside, to the kernel's and to the host's alike.

use lb_common::family::Address;
use lb_common::flow_table::{Claimed, FlowKey, FlowMemory, Found, TO_CLIENT, Word, at, claim, find, release};
use lb_common::lifetime::sever;
use lb_common::wire::Be16;
use lb_userspace::io::flows::FlowTable;

use super::builder::Builder;

pub fn empty<A: Address>(memory: &impl FlowMemory<A>) {
    for index in 0..=memory.mask() {
        let entry = memory.entry(index).expect("an entry for every index");
        let word = entry.word();
        if word.is_live() {
            release(memory, &Found { entry, word, index });
        }
        // The same serials on both sides.
        entry.swap(entry.word(), Word(0));
    }
}

pub fn sever_all<A: Address>(memory: &impl FlowMemory<A>, now: u32) {
    for index in 0..=memory.mask() {
        let found = at(memory, index).filter(|found| !found.word.has(TO_CLIENT));
        if let Some(found) = found {
            sever(memory, &found, now);
        }
    }
}

pub fn end<A: Address>(memory: &impl FlowMemory<A>, of: &Builder) {
    if let Some(flow) = find(memory, &key(of)) {
        release(memory, &flow);
    }
}

/// Frees what is free in the other table.
pub fn free_as<A: Address>(other: &FlowTable<A>, memory: &impl FlowMemory<A>) {
    for index in 0..=memory.mask() {
        if let Some(flow) = at(memory, index)
            && at(other, index).is_none()
        {
            release(memory, &flow);
        }
    }
}

pub fn begin<A: Address>(memory: &impl FlowMemory<A>, of: &Builder) {
    let Claimed::Ours(_) = claim(memory, &key::<A>(of)) else {
        panic!("{of:?} is of a flow that is there");
    };
}

fn key<A: Address>(of: &Builder) -> FlowKey<A> {
    FlowKey {
        source: A::from_ip(&of.source.into()),
        destination: A::from_ip(&of.destination.into()),
        source_port: Be16::new(of.source_port),
        destination_port: Be16::new(of.destination_port),
        protocol: of.protocol_number(),
    }
}

pub fn agree<A: Address>(kernel: &FlowTable<A>, model: &impl FlowMemory<A>) {
    for index in 0..=model.mask() {
        if let (Some(theirs), Some(ours)) = (at(kernel, index), at(model, index)) {
            ours.entry.touch(theirs.entry.last_seen());
        }
    }
}

pub fn grow_older<A: Address>(memory: &impl FlowMemory<A>, ticks: u32) {
    for index in 0..=memory.mask() {
        let entry = memory.entry(index).expect("an entry for every index");
        if entry.word().is_live() {
            entry.touch(entry.last_seen().wrapping_sub(ticks));
        }
    }
}
