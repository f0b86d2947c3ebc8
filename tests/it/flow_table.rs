//! The flow table under several writers at once, in plain memory: what the program's CPUs and the daemon do to it.

use std::cell::UnsafeCell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use lb_common::abi::{BackendId, NextHop, TCP};
use lb_common::family::Address;
use lb_common::flow_table::{
    Claimed, Entry, FlowEntry, FlowKey, FlowMemory, Loop, Manner, TO_CLIENT, claim, find, partner, release,
};
use lb_common::wire::{Be16, Be32, Ip};

/// With the count of active flows.
struct Table<A>(Vec<UnsafeCell<FlowEntry<A>>>, AtomicI64);

// SAFETY: entries are shared through the protocol under test.
unsafe impl<A: Sync> Sync for Table<A> {}

impl<A: Address> Table<A> {
    fn new(entries: usize) -> Self {
        Self((0..entries).map(|_| UnsafeCell::default()).collect(), AtomicI64::new(0))
    }

    fn live(&self) -> Vec<FlowKey<A>> {
        let entries = (0..self.0.len()).filter_map(|index| self.entry(index as u32));
        entries
            .filter(|entry| entry.word().is_live())
            .map(|entry| entry.key(TCP))
            .collect()
    }
}

impl<A: Address> FlowMemory<A> for Table<A> {
    fn mask(&self) -> u32 {
        self.0.len() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry<A>> {
        // SAFETY: an element of a table that outlives the test.
        self.0
            .get(index as usize)
            .map(|entry| unsafe { Entry::new(entry.get()) })
    }

    fn count_active(&self, _: BackendId, change: i64) {
        self.1.fetch_add(change, Ordering::Relaxed);
    }
}

impl<A> Loop for Table<A> {}

/// What a family's addresses are made of here.
trait Numbered: Address + Ord + Sync {
    fn number(n: u32) -> Self;
}

impl Numbered for Be32 {
    fn number(n: u32) -> Self {
        Self::new(0xc612_0000 + n)
    }
}

/// Alike but for the first and the last bits.
impl Numbered for Ip {
    fn number(n: u32) -> Self {
        IpAddr::from([0x2001, 0xdb8, n as u16, 0, 0, 0, 0, n as u16]).into()
    }
}

fn key<A: Numbered>(n: u32) -> FlowKey<A> {
    FlowKey {
        source: A::number(n),
        destination: A::number(0x1000),
        source_port: Be16::new(2000),
        destination_port: Be16::new(80),
        protocol: TCP,
    }
}

fn reversed<A: Address>(key: &FlowKey<A>) -> FlowKey<A> {
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        protocol: key.protocol,
    }
}

/// A pair whose rewrite tells its key again, so that a torn reading shows.
fn open<A: Address>(table: &Table<A>, key: &FlowKey<A>) -> bool {
    let Claimed::Ours(to_client) = claim(table, &reversed(key)) else {
        return false;
    };
    let Claimed::Ours(to_backend) = claim(table, key) else {
        to_client.abandon(table);
        return false;
    };
    let hop = NextHop::default();
    to_client.fill(table, (&reversed(key), key), &hop, to_backend.index, 1);
    to_backend.fill(table, (key, &reversed(key)), &hop, to_client.index, 1);
    to_client.publish(table, 1, Manner::default(), TO_CLIENT);
    to_backend.publish(table, 1, Manner::default(), 0);
    true
}

#[test]
fn writers_never_make_a_key_twice_and_readers_never_see_another_flows_rewrite() {
    writers_and_a_reader::<Be32>();
    writers_and_a_reader::<Ip>();
}

fn writers_and_a_reader<A: Numbered>() {
    const KEYS: u32 = 24;
    let table = Table::<A>::new(64);
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
    let to_backend = live.iter().filter(|key| key.destination_port == Be16::new(80)).count();
    assert_eq!(table.1.into_inner(), to_backend as i64, "active flows were miscounted");
}

#[test]
fn both_directions_leave_together_and_their_places_serve_again() {
    flows_come_and_go::<Be32>();
    flows_come_and_go::<Ip>();
}

fn flows_come_and_go<A: Numbered>() {
    let table = Table::<A>::new(64);
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
