//! The flow table under several writers at once, in plain memory: what the program's CPUs and the daemon do to it.

use std::cell::UnsafeCell;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::abi::TCP;
use lb_common::flow_table::{
    Claimed, Entry, FlowEntry, FlowKey, FlowMemory, Rewrite, TO_CLIENT, claim, find, partner, release,
};
use lb_common::wire::{Be16, Be32};

struct Table(Vec<UnsafeCell<FlowEntry>>);

// SAFETY: entries are shared through the protocol under test.
unsafe impl Sync for Table {}

impl Table {
    fn new(entries: usize) -> Self {
        Self((0..entries).map(|_| UnsafeCell::default()).collect())
    }

    fn live(&self) -> Vec<FlowKey> {
        let entries = (0..self.0.len()).filter_map(|index| self.entry(index as u32));
        entries
            .filter(|entry| entry.word().is_live())
            .map(|entry| entry.key(TCP))
            .collect()
    }
}

impl FlowMemory for Table {
    fn mask(&self) -> u32 {
        self.0.len() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        // SAFETY: an element of a table that outlives the test.
        self.0
            .get(index as usize)
            .map(|entry| unsafe { Entry::new(entry.get()) })
    }
}

fn key(n: u32) -> FlowKey {
    FlowKey {
        source: Be32::from(Ipv4Addr::from_bits(0xc612_0000 + n)),
        destination: Be32::from(Ipv4Addr::new(198, 18, 0, 100)),
        source_port: Be16::new(2000),
        destination_port: Be16::new(80),
        protocol: TCP,
    }
}

fn reversed(key: &FlowKey) -> FlowKey {
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        protocol: key.protocol,
    }
}

/// A pair whose rewrite tells its key again, so that a torn reading shows.
fn open(table: &Table, key: &FlowKey) -> bool {
    let Claimed::Ours(to_client) = claim(table, &reversed(key)) else {
        return false;
    };
    let Claimed::Ours(to_backend) = claim(table, key) else {
        to_client.abandon();
        return false;
    };
    let rewrite = Rewrite {
        source: key.source,
        destination: key.source,
        ..Rewrite::default()
    };
    to_client.fill(&reversed(key), &rewrite, to_backend.index, 1);
    to_backend.fill(key, &rewrite, to_client.index, 1);
    to_client.publish(1, TO_CLIENT);
    to_backend.publish(1, 0);
    true
}

#[test]
fn writers_never_make_a_key_twice_and_readers_never_see_another_flows_rewrite() {
    const KEYS: u32 = 24;
    let table = Table::new(64);
    let (opened, seen) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (table, opened) = (&table, &opened);
            scope.spawn(move || {
                for round in 0..40_000_u32 {
                    let key = key((round * 7 + writer * 5) % KEYS);
                    if open(table, &key) {
                        opened.fetch_add(1, Ordering::Relaxed);
                    } else if let Some(found) = find(table, &key) {
                        release(table, &found);
                    }
                }
            });
        }
        let (table, seen) = (&table, &seen);
        scope.spawn(move || {
            for round in 0..200_000 {
                let key = key(round % KEYS);
                let Some(found) = find(table, &key) else { continue };
                let rewrite = *found.entry.rewrite();
                if found.entry.word().same_tenant(found.word) {
                    assert_eq!(rewrite.source, key.source);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    assert!(
        opened.into_inner() > 1000 && seen.into_inner() > 100,
        "too little happened to mean anything"
    );
    let live = table.live();
    let mut unique = live.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(live.len(), unique.len(), "a key stands in the table twice");
}

#[test]
fn both_directions_leave_together_and_their_places_serve_again() {
    let table = Table::new(64);
    for round in 0..1000 {
        let key = key(round);
        assert!(open(&table, &key));
        let found = find(&table, &key).expect("the flow that was opened");
        let other = partner(&table, &found).expect("its other direction");
        assert_eq!(other.entry.key(TCP), reversed(&key));
        assert!(release(&table, &found));
        assert_eq!(table.live(), []);
    }
}
