//! The laws of plans, on states with few ids and few owners.

use lb_common::abi::{Listen, NextHop, Route, Service};
use lb_common::wire::{Be16, Be32, Ip};
use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;
use crate::core::config::Xdp;
use crate::core::kernel::Attachment;
use crate::core::network::Prefix;

fn backend(service: ServiceId, fingerprint: u64, port: u16) -> abi::Backend {
    abi::Backend {
        address: Be32::new(0xc612_010b).into(),
        port: Be16::new(port),
        service,
        fingerprint,
        ..abi::Backend::NOBODY
    }
}

/// Few ids and few owners, so that they pass from one to another often.
fn safe_state() -> impl Strategy<Value = KernelState> {
    let backends = btree_map(1..7u16, (1..4u16, 1..4u64, 1..3u16), 0..6);
    let services = btree_map(1..4u16, (1..4u64, proptest::collection::vec(0..6usize, 0..8)), 0..4);
    let listens = btree_map(1..6u16, 1..4u16, 0..6);
    let routes = btree_map(0..4u8, 0..3u32, 0..4);
    let attached = btree_map(
        1..4u32,
        (0..4usize, prop_oneof![Just(Xdp::Auto), Just(Xdp::Native)]),
        0..3,
    );
    (backends, services, listens, routes, attached).prop_map(|(backends, services, listens, routes, attached)| {
        let mut state = KernelState::default();
        for (id, (service, fingerprint, port)) in backends {
            state.backends.insert(id, backend(service, fingerprint, port));
        }
        for (&service, (_, picks)) in &services {
            let own = state.backends.iter().filter(|(_, backend)| backend.service == service);
            let own: Vec<BackendId> = own.map(|(&id, _)| id).collect();
            let picks = picks.iter().filter_map(|&pick| own.get(pick).copied());
            state.slots.insert(service, picks.collect());
        }
        for (port, id) in listens {
            if let Some(&(fingerprint, _)) = services.get(&id) {
                let (address, port) = (Ip::from(Be32::new(0xc612_0064)), Be16::new(port));
                let listen = Listen {
                    address,
                    port,
                    protocol: abi::TCP,
                    unused: 0,
                };
                state.listens.insert(
                    listen,
                    Service {
                        id,
                        mode: 0,
                        algorithm: 0,
                        lease: 0,
                        unused: [0; 3],
                        fingerprint,
                    },
                );
            }
        }
        for (third, ifindex) in routes {
            let prefix = Prefix {
                address: [198, 18, third, 0].into(),
                length: 24,
            };
            let next_hop = NextHop {
                ifindex,
                ..NextHop::default()
            };
            state.routes.insert(prefix, Route { next_hop, on_link: 0 });
        }
        for (ifindex, (name, mode)) in attached {
            let interface = ["eth0", "eth1", "eth2", "eth3"][name].to_owned();
            if state.attached.values().all(|other| other.interface != interface) {
                state.attached.insert(ifindex, Attachment { interface, mode });
            }
        }
        state
    })
}

proptest! {
    #[test]
    fn nothing_to_do_where_all_is_well(state in safe_state()) {
        prop_assert_eq!(state.unsafe_reason(), None);
        prop_assert_eq!(diff(&state, &state), vec![]);
    }

    #[test]
    fn every_prefix_is_safe_and_the_whole_plan_arrives(start in safe_state(), desired in safe_state()) {
        let mut state = start.clone();
        for action in diff(&start, &desired) {
            prop_assert!(state.allows(&action), "{:?}", action);
            if let Action::Attach(ifindex, _) = &action {
                prop_assert!(!state.attached.contains_key(ifindex), "{} has a program already", ifindex);
            }
            state.apply(&action);
            prop_assert_eq!(state.unsafe_reason(), None);
        }
        prop_assert_eq!(&state, &desired);
    }

    #[test]
    fn failing_steps_leave_a_safe_state_that_later_arrives(
        start in safe_state(),
        desired in safe_state(),
        fails in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        let mut state = start;
        let mut fails = fails.into_iter();
        while fails.len() > 0 {
            let failures = carry_out(&mut state, &desired, |_| match fails.next() {
                Some(true) => Err("no"),
                _ => Ok(()),
            });
            if failures.is_empty() {
                break;
            }
        }
        for _ in 0..3 {
            carry_out(&mut state, &desired, |_| Ok::<(), &str>(()));
        }
        prop_assert_eq!(&state, &desired);
    }
}

#[test]
fn a_leaving_backend_goes_after_its_slots() {
    let two = KernelState {
        slots: BTreeMap::from([(1, vec![1, 2])]),
        backends: BTreeMap::from([(1, backend(1, 10, 80)), (2, backend(1, 20, 80))]),
        ..KernelState::default()
    };
    let mut one = two.clone();
    one.slots.insert(1, vec![1, 1]);
    one.backends.remove(&2);
    assert_eq!(
        diff(&two, &one),
        [
            Action::PutSlots(BTreeMap::from([(1, vec![1, 1])])),
            Action::RemoveBackend(2)
        ]
    );
    let mut actual = two;
    let failures = carry_out(&mut actual, &one, |_| Err("no memory"));
    assert_eq!(
        failures.len(),
        1,
        "removing the backend is not even tried: {failures:?}"
    );
}
