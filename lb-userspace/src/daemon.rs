//! The only event loop: what happens goes into the world, what follows from it goes to the kernel.
//!
//! Owns the world and is the one writer of maps and links; decides nothing itself. `start` is the way in, `answers`
//! what operators get to hear. Tested by running it, in the lab.

mod answers;
mod counters;
mod drivers;
mod grid;
mod guard;
mod ownership;
mod reload;
mod report;
mod runtime;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use lb_common::abi::BackendId;
use lb_common::lease::LeaseId;
use lb_common::signs;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::core::desired::desired;
use crate::core::dns::{Answer, Question};
use crate::core::endings::Ending;
use crate::core::keeping::Kept;
use crate::core::kernel::{Action, KernelState};
use crate::core::plan;
use crate::core::world::{Event, Moment, World};
use crate::io::bpf::{AwaitedSigns, Kernel};
use crate::io::control::Control;
use crate::io::dns::Resolver;
use crate::io::flows::Sweep;
use crate::io::frames::Frames;
use crate::io::hooks::Hooks;
use crate::io::probes::Crew;
use crate::io::record::Records;
use crate::io::secret_files::SecretFiles;
use crate::io::vrrp::Ownership;
use crate::io::watched::Programs;
use crate::io::{config_file, driver_counters::DriverCounters, netlink, systemd};
use answers::Promise;
use report::Told;

pub use start::StartError;

/// How long a start or a reload waits for backends to answer, ARP or ND first and then their checks, and for the kernel
/// to show our programs: a first flow should find its way, and a backend that is away must not hold up the others.
const ACQUAINTANCE: Duration = Duration::from_millis(300);
/// Flows that end by themselves are found this often, those of a lost backend at once.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a sweep under way may wait for its next slice, whatever else there is to do.
const SWEEP_WAITS: Duration = Duration::from_millis(50);
/// How long the disk is waited for, by an operator for an answer and by the daemon at its end.
const DISK_WAITS: Duration = Duration::from_secs(3);

pub struct Daemon {
    path: PathBuf,
    /// What the file said when it was last tried: the watcher's echo of it is no news.
    tried: Result<String, String>,
    world: World,
    /// What the kernel holds, as far as our steps went.
    actual: KernelState,
    kernel: Kernel,
    signs: AwaitedSigns,
    frames: Frames,
    drivers: DriverCounters,
    sweep: Option<Sweep>,
    /// When its last slice was taken.
    swept: Instant,
    /// And no sweep has been told.
    ways_moved: bool,
    /// How many sweeps are still to look after next hops.
    passes: u8,
    /// Leases that another node holds now, of which no sweep has been told.
    lost: BTreeSet<LeaseId>,
    /// As the last sweep was told.
    ending: BTreeMap<BackendId, Ending>,
    /// How many new flows have found no source port.
    exhausted: Option<u64>,
    network: netlink::Watch,
    file: config_file::Watch,
    control: Control,
    records: Records,
    /// Answered when what was said is on disk, or takes too long to get there.
    promised: Vec<Promise>,
    crew: Crew,
    resolver: Resolver,
    /// Where addresses are shared, or were.
    ownership: Option<Ownership>,
    hooks: Hooks,
    programs: Programs,
    secret_files: SecretFiles,
    told: Told,
}

/// Runs until SIGTERM or SIGINT. What the kernel was told stays in force afterwards.
pub fn run(path: PathBuf) -> Result<(), StartError> {
    let path = std::path::absolute(&path).unwrap_or(path);
    let runtime = runtime::build().map_err(StartError::Host)?;
    let ended = runtime.block_on(async {
        runtime::have_a_thread().await.map_err(StartError::Host)?;
        let mut signals = Signals::catch().map_err(StartError::Host)?;
        // A signal that comes meanwhile waits: a start takes a moment, and is taken back as a whole or not at all.
        let mut daemon = Daemon::start(path).await?;
        daemon.serve(&mut signals).await;
        Ok(())
    });
    // A disk that hangs keeps nobody here.
    runtime.shutdown_background();
    ended
}

impl Daemon {
    async fn serve(&mut self, Signals { stop, reload }: &mut Signals) {
        let mut sweep_timer = every(SWEEP_EVERY);
        let mut guard_timer = every(guard::LOOKS_EVERY);
        systemd::ready(&self.summary());
        loop {
            self.write_records();
            self.weigh_shared();
            if self.swept.elapsed() > SWEEP_WAITS {
                self.sweep();
            }
            let deadline = self.world.next_deadline();
            tokio::select! {
                biased;
                () = stop.wanted() => break,
                _ = reload.recv() => drop(self.reload().await),
                call = self.control.call() => self.answer(call).await,
                (kept, outcome) = self.records.written() => self.recorded(kept, outcome),
                () = at(self.promised.first().map(Promise::due)) => self.keep_promises(),
                () = self.network.changed() => self.network_changed(),
                news = ownership::news(&mut self.ownership) => self.shared_news(news),
                text = self.file.changed() => self.file_changed(text).await,
                // Before what may always have something: it is due once a second.
                _ = sweep_timer.tick() => {
                    self.count();
                    self.guard_pins();
                    self.begin_sweep(self.sweep.is_none());
                }
                _ = guard_timer.tick() => self.guard_links(),
                counters = self.drivers.counted() => self.frames_sent(counters),
                // Before the deadline: a check that is answered is not late.
                seen = self.crew.seen() => self.happened(Event::Observed(seen)),
                () = grid::reached(deadline) => self.happened(Event::Tick),
                (program, well) = self.programs.ended() => self.happened(Event::Ended(program, well)),
                (question, answer) = self.resolver.answered() => self.resolved(question, answer),
                () = self.secret_files.changed() => self.tell_all(),
                signs = self.signs.seen() => self.doubt(&signs),
                // In slices, so that whatever else happens need not wait for a whole table.
                () = tokio::task::yield_now(), if self.sweep.is_some() => self.sweep(),
            }
        }
        systemd::stopping();
        // First: who takes over need not wait.
        self.end_sharing().await;
        if timeout(DISK_WAITS, self.write_to_end()).await.is_err() {
            warn!("what was to hold after a restart is not written yet, and will not: the disk hangs");
        }
        info!(
            pins = %self.pin_dir().display(),
            "stopped; the kernel goes on forwarding. `naru run` takes over again, `rm -r` of the pins detaches"
        );
    }

    async fn write_to_end(&mut self) {
        while Kept::ALL.iter().any(|kept| self.records.is_writing(*kept)) {
            let (kept, outcome) = self.records.written().await;
            self.recorded(kept, outcome);
        }
    }

    fn happened(&mut self, event: Event) {
        if self.learn(event) {
            self.act();
            self.begin_sweep(false);
            self.told.tell(&self.world);
        }
    }

    /// The world takes it in, and what it wants to know is found out; true: there may be something to do.
    fn learn(&mut self, event: Event) -> bool {
        let mut changed = self.world.handle(event, now());
        if let Some(carried) = self.count_wanted() {
            changed |= self.world.handle(carried, now());
        }
        for launch in self.world.take_launches() {
            if let Some(target) = self.world.target(launch.backend) {
                self.crew.begin(launch, target);
            }
        }
        for question in self.world.take_questions() {
            let kept = self.world.names().found_as(&question).map(str::to_owned);
            self.resolver.ask(question, self.world.name_servers(), kept);
        }
        changed
    }

    /// Not before a start has succeeded: one that fails changes nothing.
    fn write_records(&mut self) {
        while let Some((kept, text)) = self.world.take_record() {
            self.records.write(kept, text);
        }
    }

    /// Takes in what happens until it is satisfying, without acting on it, for a moment at most: what waits for this
    /// is better done once than twice.
    async fn settle(&mut self, satisfied: impl Fn(&Self) -> bool) {
        let wait = async {
            while !satisfied(self) {
                self.network.keep_known(self.world.to_keep());
                let deadline = self.world.next_deadline();
                tokio::select! {
                    () = self.network.changed() => {
                        let network = self.network.network();
                        self.learn(Event::Network(network));
                    }
                    () = at(deadline) => drop(self.learn(Event::Tick)),
                    seen = self.crew.seen() => drop(self.learn(Event::Observed(seen))),
                    (question, answer) = self.resolver.answered() => drop(self.learn(Event::Resolved(question, answer))),
                }
            }
        };
        let _the_rest_comes_later = timeout(ACQUAINTANCE, wait).await;
    }

    fn resolved(&mut self, question: Question, answer: Answer) {
        self.happened(Event::Resolved(question, answer));
        // What a failure tells changes nothing else.
        self.told.tell(&self.world);
        self.crew_follows();
    }

    fn doubt(&mut self, signals: &[signs::Signal]) {
        for signal in signals {
            debug!(backend = signal.backend(), sign = ?signal.sign(), "packets tell of trouble; asking");
            self.happened(Event::Doubt(signal.backend()));
        }
    }

    fn network_changed(&mut self) {
        let network = self.network.network();
        self.happened(Event::Network(network));
        self.tell_sysctls();
    }

    /// Makes the kernel what the world wants it to be, as far as it lets us.
    fn act(&mut self) {
        let desired = desired(&self.world);
        self.ways_moved |= !self.actual.same_ways(&desired);
        let mut programs_moved = false;
        let failures = plan::carry_out(&mut self.actual, &desired, |action| {
            programs_moved |= matches!(action, Action::Attach(..) | Action::Detach(_));
            self.kernel.apply(action).map_err(|error| format!("{error:#}"))
        });
        if programs_moved {
            self.network.refresh();
        }
        self.network.keep_known(self.world.to_keep());
        self.drivers.follow(self.world.native_interfaces());
        self.world.handle(Event::Failures(failures), now());
    }

    /// One that is under way begins anew where it does not know yet of ways that moved or of flows that are to end, or no
    /// longer are: new ones must not wait, and those of a backend that is back must not end.
    fn begin_sweep(&mut self, due: bool) {
        let terms = self.world.terms(now().monotonic);
        let ending = terms.iter().filter_map(|(id, terms)| Some((*id, terms.ending?)));
        let ending: BTreeMap<_, _> = ending.collect();
        if due || self.ways_moved || !self.lost.is_empty() || ending != self.ending {
            let sweep = self.sweep.get_or_insert_with(|| Sweep::new(BTreeMap::new()));
            sweep.begin_anew(terms);
            if !self.lost.is_empty() {
                sweep.lose(std::mem::take(&mut self.lost), self.kernel.leases());
            }
            if std::mem::take(&mut self.ways_moved) {
                // The second time for flows that were just being opened by the older way.
                self.passes = 2;
            }
            if self.passes > 0 {
                sweep.repoint();
            }
        }
        self.ending = ending;
    }

    fn sweep(&mut self) {
        let Some(sweep) = self.sweep.take() else { return };
        self.swept = Instant::now();
        let send = &mut |ifindex, frame: &[u8]| {
            if let Err(error) = self.frames.send(ifindex, frame) {
                debug!(ifindex, %error, "cannot send a RST; the peer gets it when it speaks");
            }
        };
        match self.kernel.flows().sweep(sweep, &self.actual, send) {
            Ok(report) => {
                if let Some(repointed) = report.repointed {
                    self.passes = self.passes.saturating_sub(1).max(u8::from(repointed > 0));
                }
                self.told.tell_severed(&self.world, &report.severed);
                self.told.tell_lost(report.lost);
                self.happened(Event::FlowCounts(report.flows));
            }
            Err(sweep) => self.sweep = Some(sweep),
        }
    }
}

struct Signals {
    stop: Stop,
    reload: Signal,
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catch signals");
        let stop = Stop {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        };
        Ok(Self {
            stop,
            reload: catch(SignalKind::hangup())?,
        })
    }
}

impl Stop {
    /// Returns when we are to end. Cancel safe.
    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn now() -> Moment {
    Moment {
        monotonic: Instant::now(),
        wall: SystemTime::now(),
    }
}

fn every(period: Duration) -> Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
