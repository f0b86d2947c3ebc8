//! The slot tables of many services: put and read back without waiting for the kernel once for each.

use std::time::{Duration, Instant};

use lb_userspace::core::kernel::Action;

use lb_common::abi::{Backend, Mode};

use super::*;

const SERVICES: u16 = 1000;
/// In turns of one table put alone, which is what a wait of the kernel takes on this machine under this load. One by
/// one they take as many turns as there are tables, all at once fifty to a hundred.
const TURNS: u32 = 300;
/// Of so many alone the turn is the mean.
const ALONE: u16 = 20;

#[test]
fn a_thousand_are_put_and_read_back_in_few_turns() {
    let Some(mut runner) = net::runner_of_its_own("a_thousand_are_put_and_read_back_in_few_turns") else {
        return;
    };
    let one = state().backends[&id(Family::Ipv4, Mode::Nat, BACKEND)];
    let ids = 100..100 + SERVICES;
    for id in ids.clone() {
        let backend = Backend { service: id, ..one };
        runner.kernel.apply(&Action::PutBackend(id, backend)).unwrap();
    }
    let tables: BTreeMap<_, _> = ids.map(|id| (id, vec![id; 3])).collect();
    let alone: Vec<_> = tables
        .iter()
        .take(ALONE.into())
        .map(|(id, slots)| Action::PutSlots([(*id, slots.clone())].into()))
        .collect();

    let turn = time(|| alone.iter().for_each(|action| runner.kernel.apply(action).unwrap())) / ALONE.into();
    let put = time(|| runner.kernel.apply(&Action::PutSlots(tables.clone())).unwrap());
    let mut found = BTreeMap::new();
    let read = time(|| found = runner.kernel.snapshot().unwrap().slots);

    found.retain(|id, _| tables.contains_key(id));
    assert!(
        found == tables,
        "{} of {SERVICES} were read back as they were put",
        found.len()
    );
    let told = format!("put in {put:?}, read in {read:?}, where a turn takes {turn:?}");
    assert!(put < turn * TURNS && read < turn * TURNS, "{told}");
}

fn time(act: impl FnOnce()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}
