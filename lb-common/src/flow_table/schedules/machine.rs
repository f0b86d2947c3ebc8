//! A machine of several CPUs as a value, which goes on by one step of one of them.
//!
//! A CPU is what its reads have given it so far: to go on, its story is told again from the beginning with those, up to the
//! access for which they do not suffice. That one is its step. A plain store waits in a buffer of its CPU, as on x86-64,
//! until it is shown by a step of its own. Knows memory as bytes. Tested in `litmus`.

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::string::String;
use std::thread_local;
use std::vec;
use std::vec::Vec;

use super::world::Key;

/// Where the memory begins. Nothing is there: whoever goes past `shared` meets his end.
pub const BASE: usize = 1 << 16;

#[derive(Clone, Hash)]
pub struct Machine {
    pub memory: Vec<u8>,
    cpus: Vec<Cpu>,
    /// Whether stores wait in buffers, or are there at once.
    buffers: bool,
    /// Which flow each CPU has moved on, as the world sees it.
    pub moves: Vec<Option<(Key, Key)>>,
}

#[derive(Clone, Default, Hash)]
struct Cpu {
    /// What its accesses have given it.
    past: Vec<u64>,
    next: Option<Access>,
    /// Done, and not yet seen by others.
    stores: VecDeque<(usize, Vec<u8>)>,
    told: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Reads,
    Writes,
    /// Swaps or adds, at once for all to see, after all that the CPU has written.
    Swaps,
}

#[derive(Clone, Copy, Hash)]
struct Access {
    kind: Kind,
    at: usize,
    size: usize,
}

impl Access {
    const fn range(&self) -> Range<usize> {
        self.at..self.at + self.size
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, at, size } = self;
        write!(f, "{kind:?} {size} bytes of line {} at {}", at / 64, at % 64)
    }
}

/// Who has used what: each four bytes, with one bit for each CPU that read and that wrote them. Where two have been and
/// one of them wrote, it matters who is first; learned on the way, hence a walk begins anew when there are more.
#[derive(Clone, Default)]
pub struct Places {
    used: HashMap<usize, (u8, u8)>,
    grew: bool,
}

impl Places {
    fn note(&mut self, cpu: usize, access: &Access) {
        for place in access.at / 4..access.range().end.div_ceil(4) {
            let was = self.is_shared(place);
            let (by, writers) = self.used.entry(place).or_default();
            *by |= 1 << cpu;
            *writers |= u8::from(access.kind != Kind::Reads) << cpu;
            self.grew |= self.is_shared(place) && !was;
        }
    }

    fn is_shared(&self, place: usize) -> bool {
        let used = self.used.get(&place);
        used.is_some_and(|(by, writers)| *writers != 0 && by.count_ones() > 1)
    }

    fn matter_to(&self, access: &Access) -> bool {
        (access.at / 4..access.range().end.div_ceil(4)).any(|place| self.is_shared(place))
    }

    /// Since this was last asked.
    pub fn grew(&mut self) -> bool {
        mem::take(&mut self.grew)
    }
}

impl Machine {
    pub fn new(memory: Vec<u8>, cpus: usize, buffers: bool) -> Self {
        Self {
            memory,
            buffers,
            cpus: vec![Cpu::default(); cpus],
            moves: vec![None; cpus],
        }
    }

    /// What the CPU does next, if it can.
    pub fn next(&self, cpu: usize) -> Option<impl fmt::Display + use<>> {
        let Cpu { next, stores, .. } = &self.cpus[cpu];
        next.filter(|access| access.kind != Kind::Swaps || stores.is_empty())
    }

    pub fn keeps_store(&self, cpu: usize) -> bool {
        !self.cpus[cpu].stores.is_empty()
    }

    pub fn shows_store(&self, cpu: usize) -> Self {
        let mut machine = self.clone();
        if let Some((at, bytes)) = machine.cpus[cpu].stores.pop_front() {
            machine.memory[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        machine
    }

    pub fn told(&self) -> String {
        let told: Vec<&str> = self.cpus.iter().filter_map(|cpu| cpu.told.as_deref()).collect();
        told.join(", ")
    }

    /// Up to the first step that matters.
    pub fn begins(&self, cpu: usize, story: &dyn Fn() -> String, places: &mut Places) -> Self {
        self.tells(cpu, story, places, 0)
    }

    /// Takes the next step, and goes on to the one after that.
    pub fn goes_on(&self, cpu: usize, story: &dyn Fn() -> String, places: &mut Places) -> Self {
        self.tells(cpu, story, places, 1)
    }

    fn tells(&self, cpu: usize, story: &dyn Fn() -> String, places: &mut Places, steps: usize) -> Self {
        TURN.set(Some(Turn {
            machine: self.clone(),
            cpu,
            replayed: 0,
            steps,
            places: mem::take(places),
        }));
        let told = catch_unwind(AssertUnwindSafe(story));
        let turn = TURN.take().expect("a turn that began ends here");
        *places = turn.places;
        let mut machine = turn.machine;
        match told {
            Ok(told) => (machine.cpus[cpu].told, machine.cpus[cpu].next) = (Some(told), None),
            Err(why) if why.is::<Waits>() => {}
            Err(why) => resume_unwind(why),
        }
        machine
    }
}

/// All of a story at once, by itself.
pub fn alone<T>(memory: &mut Vec<u8>, story: impl FnOnce() -> T) -> T {
    TURN.set(Some(Turn {
        machine: Machine::new(mem::take(memory), 1, false),
        cpu: 0,
        replayed: 0,
        steps: usize::MAX,
        places: Places::default(),
    }));
    let told = story();
    *memory = TURN.take().expect("the turn that began above").machine.memory;
    told
}

/// Looks at the memory without taking a step.
pub fn peek<T>(look: impl FnOnce(&[u8]) -> T) -> T {
    TURN.with_borrow(|turn| look(&turn.as_ref().expect("a turn").machine.memory))
}

/// A CPU that comes to a step that is not its own yet.
struct Waits;

/// The CPU that goes now.
struct Turn {
    machine: Machine,
    cpu: usize,
    replayed: usize,
    /// How many steps that matter it may take.
    steps: usize,
    places: Places,
}

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
    /// Every value that somebody borrowed: there are few.
    static LENT: RefCell<HashMap<Vec<u8>, &'static [u64]>> = RefCell::default();
}

impl Turn {
    /// None where the CPU has to wait.
    fn take(&mut self, access: Access, act: impl FnOnce(&mut Self) -> u64) -> Option<u64> {
        if let Some(given) = self.machine.cpus[self.cpu].past.get(self.replayed) {
            self.replayed += 1;
            return Some(*given);
        }
        self.places.note(self.cpu, &access);
        let matters = match access.kind {
            // It is a step when it is shown.
            Kind::Writes => false,
            Kind::Reads => self.places.matter_to(&access),
            Kind::Swaps => self.places.matter_to(&access) || self.machine.keeps_store(self.cpu),
        };
        if matters {
            if self.steps == 0 {
                self.machine.cpus[self.cpu].next = Some(access);
                return None;
            }
            self.steps -= 1;
        }
        let given = act(self);
        self.machine.cpus[self.cpu].past.push(given);
        self.replayed += 1;
        Some(given)
    }

    /// As this CPU sees it.
    fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = self.machine.memory[range.clone()].to_vec();
        for (at, stored) in &self.machine.cpus[self.cpu].stores {
            for (byte, stored) in (*at..).zip(stored).filter(|(byte, _)| range.contains(byte)) {
                bytes[byte - range.start] = *stored;
            }
        }
        bytes
    }

    fn store(&mut self, access: Access, bytes: &[u8]) {
        if self.machine.buffers && self.places.matter_to(&access) {
            self.machine.cpus[self.cpu]
                .stores
                .push_back((access.at, bytes.to_vec()));
        } else {
            self.machine.memory[access.range()].copy_from_slice(bytes);
        }
    }
}

fn step<T>(kind: Kind, at: *const T, size: usize, act: impl FnOnce(&mut Turn, Access) -> u64) -> u64 {
    let access = Access {
        kind,
        at: at.addr() - BASE,
        size,
    };
    let given = TURN.with_borrow_mut(|turn| {
        let turn = turn.as_mut().expect("only stories touch the table");
        turn.take(access, |turn| act(turn, access))
    });
    given.unwrap_or_else(|| resume_unwind(Box::new(Waits)))
}

fn number(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(number)
}

/// Takes the place of `crate::shared`.
#[expect(clippy::missing_safety_doc, reason = "as there")]
pub mod shared {
    use super::{HashMap, Kind, LENT, Vec, number, step};

    pub unsafe fn load(at: *mut u64) -> u64 {
        step(Kind::Reads, at, 8, |turn, access| number(&turn.bytes(access.range())))
    }

    pub unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> bool {
        let done = step(Kind::Swaps, at, 8, |turn, access| {
            let word = &mut turn.machine.memory[access.range()];
            let is_old = number(word) == old;
            if is_old {
                word.copy_from_slice(&new.to_ne_bytes());
            }
            u64::from(is_old)
        });
        done == 1
    }

    pub unsafe fn add(at: *mut u64, change: u64) {
        step(Kind::Swaps, at, 8, |turn, access| {
            let word = &mut turn.machine.memory[access.range()];
            word.copy_from_slice(&number(word).wrapping_add(change).to_ne_bytes());
            0
        });
    }

    pub unsafe fn read<T: Copy>(at: *const T) -> T {
        assert!(size_of::<T>() <= 8, "a CPU's past is of numbers");
        let given = step(Kind::Reads, at, size_of::<T>(), |turn, access| {
            number(&turn.bytes(access.range()))
        });
        // SAFETY: as many bytes as a T has, read where one is.
        unsafe { (&raw const given).cast::<T>().read() }
    }

    pub unsafe fn borrow<'a, T: Copy>(at: *const T) -> &'a T {
        let given = step(Kind::Reads, at, size_of::<T>(), |turn, access| {
            let bytes = turn.bytes(access.range());
            LENT.with_borrow_mut(|lent: &mut HashMap<_, _>| {
                let lend = || -> &'static [u64] { bytes.chunks(8).map(number).collect::<Vec<u64>>().leak() };
                let lent = lent.entry(bytes.clone()).or_insert_with(lend);
                lent.as_ptr().expose_provenance() as u64
            })
        });
        // SAFETY: as in `read`; it stays for ever.
        unsafe { &*std::ptr::with_exposed_provenance(given as usize) }
    }

    /// What is longer than a number comes in several stores.
    pub unsafe fn write<T: Copy>(at: *mut T, value: T) {
        for start in (0..size_of::<T>()).step_by(8) {
            let size = 8.min(size_of::<T>() - start);
            // SAFETY: all of it is integers without padding.
            let bytes = unsafe { core::slice::from_raw_parts((&raw const value).cast::<u8>().add(start), size) };
            step(
                Kind::Writes,
                at.cast::<u8>().wrapping_add(start),
                size,
                |turn, access| {
                    turn.store(access, bytes);
                    0
                },
            );
        }
    }

    pub unsafe fn write_live<T: Copy>(at: *mut T, value: T) {
        // SAFETY: the caller's.
        unsafe { write(at, value) }
    }
}
