//! The flow table's protocol under every schedule: in whatever order CPUs and the daemon take their steps.
//!
//! The very functions of this crate run, `decide` among them. Each access to the table is a step, before which others may
//! take theirs (`machine`). `Walk` goes through all orders, and the `world` looks at the table after every step. `cases`
//! tells what may happen at the same moment and how that may end; docs/flow-table.md, what all of it shows.

use std::collections::{BTreeSet, HashSet};
use std::format;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::println;
use std::string::String;
use std::thread::panicking;
use std::vec::Vec;

use machine::{Machine, Places};
use world::{Story, World};

mod cases;
mod litmus;
mod machine;
mod world;

pub use machine::shared;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bound {
    AllSchedules,
    /// Those in which a CPU that could go on has to wait so often at most. Its stores do not wait then.
    Interruptions(u32),
}

impl Bound {
    /// What is left of it, if there is something.
    fn less(self, interrupts: bool) -> Option<Self> {
        match self {
            Self::AllSchedules => Some(self),
            Self::Interruptions(left) => left.checked_sub(u32::from(interrupts)).map(Self::Interruptions),
        }
    }
}

/// Walks depth first through all that can come of a machine.
///
/// What can come of it does not depend on how it got there: where another schedule has been in the same state, this one
/// is left. Steps that nobody else can notice are taken at once (`Places`).
struct Walk<'a> {
    world: &'a World,
    stories: &'a [Story],
    places: Places,
    known: HashSet<u64>,
    endings: BTreeSet<String>,
    path: Path,
}

/// The steps up to here; told where they led to a panic.
#[derive(Default)]
struct Path(Vec<String>);

impl Drop for Path {
    fn drop(&mut self) {
        if panicking() {
            println!("This is what led there:\n{}", self.0.join("\n"));
        }
    }
}

/// Every way that it may end, when each CPU has a story of its own: what they tell, and the flows that there are then.
fn endings(bound: Bound, world: &World, stories: &[Story]) -> BTreeSet<String> {
    let mut places = Places::default();
    loop {
        let mut walk = Walk {
            world,
            stories,
            places,
            known: HashSet::new(),
            endings: BTreeSet::new(),
            path: Path::default(),
        };
        let mut machine = Machine::new(world.memory(), stories.len(), bound == Bound::AllSchedules);
        for (cpu, story) in stories.iter().enumerate() {
            machine = machine.begins(cpu, &|| story(world), &mut walk.places);
        }
        if walk.from(&machine, 0, bound).is_some() {
            println!("{bound:?}: {} states", walk.known.len());
            return walk.endings.clone();
        }
        places = walk.places.clone();
    }
}

impl Walk<'_> {
    /// None where a place turned out to be shared that was thought to be one CPU's own: then all begins anew.
    fn from(&mut self, machine: &Machine, current: usize, bound: Bound) -> Option<()> {
        if self.places.grew() {
            return None;
        }
        let current = machine.next(current).map(|_| current);
        let goes_on = current.filter(|_| bound != Bound::AllSchedules);
        let state = BuildHasherDefault::<DefaultHasher>::default().hash_one((machine, goes_on, bound));
        if !self.known.insert(state) {
            return Some(());
        }
        let mut over = true;
        for (cpu, story) in self.stories.iter().enumerate() {
            if let Some(step) = machine.next(cpu) {
                over = false;
                let Some(left) = bound.less(current.is_some_and(|current| current != cpu)) else {
                    continue;
                };
                self.path.0.push(format!("CPU {cpu} {step}"));
                let mut after = machine.goes_on(cpu, &|| story(self.world), &mut self.places);
                self.world.look(machine, &mut after, cpu);
                self.from(&after, cpu, left)?;
                self.path.0.pop();
            }
            if machine.keeps_store(cpu) {
                over = false;
                self.path.0.push(format!("CPU {cpu}'s store is seen"));
                self.from(&machine.shows_store(cpu), cpu, bound)?;
                self.path.0.pop();
            }
        }
        if over {
            self.endings
                .insert(format!("{}; {}", machine.told(), self.world.settled(machine)));
        }
        Some(())
    }
}
