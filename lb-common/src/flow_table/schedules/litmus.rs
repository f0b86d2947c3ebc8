//! Small races whose endings are known: the walk must find them all.

use std::boxed::Box;
use std::ptr::without_provenance_mut;
use std::string::{String, ToString};
use std::vec::Vec;

use super::Bound::{self, AllSchedules, Interruptions};
use super::machine::{BASE, shared};
use super::world::{Story, World};

/// A number in a line of its own, where no flow looks for it.
fn number(line: usize) -> *mut u32 {
    without_provenance_mut(BASE + 64 * line + 52)
}

fn check(bound: Bound, stories: [Story; 2], expected: &[&str]) {
    let endings = super::endings(bound, &World::of(4), &stories);
    assert_eq!(endings.iter().map(String::as_str).collect::<Vec<&str>>(), expected);
}

fn count() -> Story {
    Box::new(|_| {
        // SAFETY: a number of the memory.
        let seen = unsafe { shared::read(number(0)) };
        // SAFETY: as above.
        unsafe { shared::write(number(0), seen + 1) };
        seen.to_string()
    })
}

#[test]
fn lost_updates_are_found() {
    check(AllSchedules, [count(), count()], &["0, 0; ", "0, 1; ", "1, 0; "]);
    // A store comes with the step before it.
    check(Interruptions(1), [count(), count()], &["0, 1; ", "1, 0; "]);
}

/// Writes one number, waits until that is seen or does not, and reads the other.
fn cross(mine: usize, waits: bool) -> Story {
    Box::new(move |_| {
        // SAFETY: as above.
        unsafe { shared::write(number(mine), 1_u32) };
        if waits {
            // SAFETY: a word that holds zero, in the beginning of a line.
            unsafe { shared::compare_exchange(without_provenance_mut(BASE + 64 * (2 + mine)), 0, 0) };
        }
        // SAFETY: as above.
        unsafe { shared::read(number(1 - mine)) }.to_string()
    })
}

#[test]
fn a_store_may_be_seen_after_later_loads_unless_a_swap_stands_between() {
    let ways = ["0, 0; ", "0, 1; ", "1, 0; ", "1, 1; "];
    check(AllSchedules, [cross(0, false), cross(1, false)], &ways);
    check(AllSchedules, [cross(0, true), cross(1, true)], &ways[1..]);
}
