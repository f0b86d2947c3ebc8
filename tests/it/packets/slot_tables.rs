//! The slot tables of many services: put and read back without waiting for the kernel once for each.

use std::time::{Duration, Instant};

use lb_userspace::core::kernel::Action;

use super::*;

const SERVICES: u16 = 1000;
/// One by one, 20 s pass on Linux 6.1, whatever the machine; all at once a second, even where it is emulated.
const IN_TIME: Duration = Duration::from_secs(10);

#[test]
fn a_thousand_are_put_and_read_back_in_time() {
    let Some(mut runner) = net::runner_of_its_own("a_thousand_are_put_and_read_back_in_time") else {
        return;
    };
    let one = state().backends[&BACKEND_ID];
    let ids = 100..100 + SERVICES;
    for id in ids.clone() {
        let backend = Backend { service: id, ..one };
        runner.kernel.apply(&Action::PutBackend(id, backend)).unwrap();
    }
    let tables: BTreeMap<_, _> = ids.map(|id| (id, vec![id; 3])).collect();

    let start = Instant::now();
    runner.kernel.apply(&Action::PutSlots(tables.clone())).unwrap();
    let put = start.elapsed();
    let start = Instant::now();
    let mut found = runner.kernel.snapshot().unwrap().slots;
    let read = start.elapsed();

    found.retain(|id, _| tables.contains_key(id));
    assert!(
        found == tables,
        "{} of {SERVICES} were read back as they were put",
        found.len()
    );
    assert!(put < IN_TIME && read < IN_TIME, "put in {put:?}, read in {read:?}");
}
