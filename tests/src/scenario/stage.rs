//! What a scenario acts on: the world, and in the place of kernel and network, values that obey at once.
//!
//! The kernel here knows one thing more than to obey: it fails the test when a state between two actions is unsafe.
//!
//! Long because: one type holds all that a scenario acts on, and each command is a few lines of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::BackendId;
use lb_common::verdict::Reason;
use lb_userspace::core::config::{Xdp, parse};
use lb_userspace::core::desired::desired;
use lb_userspace::core::dns::document;
use lb_userspace::core::endings::Ending;
use lb_userspace::core::explain;
use lb_userspace::core::keeping::Kept;
use lb_userspace::core::kernel::{Action, KernelState};
use lb_userspace::core::members::Name;
use lb_userspace::core::network::{Network, XdpAttachment, XdpMode};
use lb_userspace::core::overrides::Change;
use lb_userspace::core::plan::{self, carry_out};
use lb_userspace::core::sent_frames::Sent;
use lb_userspace::core::status::{About, Counters, Status, render};
use lb_userspace::core::vrrp::track::Tracked;
use lb_userspace::core::world::{Counted, Event, Moment, World};

use super::backends::Backends;
use super::names::Names;
use super::traffic::Traffic;
use super::{Scene, host};

/// 2026-01-01T00:00:00Z.
const START: Duration = Duration::from_secs(1_767_225_600);
/// How long the daemon waits for backends it has not judged before it acts on a file.
const ACQUAINTANCE: Duration = Duration::from_millis(300);

pub struct Stage {
    kernel: Kernel,
    network: Network,
    backends: Backends,
    names: Names,
    file: String,
    daemon: Option<Daemon>,
    /// What daemons have written down for the next one.
    records: BTreeMap<Kept, String>,
    counters: Counters,
    traffic: Traffic,
    base: Instant,
    clock: Duration,
    begun: bool,
}

struct Daemon {
    world: World,
    actual: KernelState,
    ending: BTreeMap<BackendId, Ending>,
}

#[derive(Default)]
struct Kernel {
    state: KernelState,
    /// How the words of actions begin that shall fail.
    failing: Vec<String>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            kernel: Kernel::default(),
            network: Network::default(),
            backends: Backends::default(),
            names: Names::default(),
            file: String::new(),
            daemon: None,
            records: BTreeMap::new(),
            counters: Counters {
                flow_capacity: 262_144,
                ..Counters::default()
            },
            traffic: Traffic::default(),
            base: Instant::now(),
            clock: Duration::ZERO,
            begun: false,
        }
    }
}

impl Scene for Stage {
    fn has_begun(&self) -> bool {
        self.begun
    }

    fn prepare(&mut self, command: &str, body: &[String]) -> Result<()> {
        match command {
            "config" => self.file = unindent(body),
            "record" => drop(self.records.insert(Kept::Overrides, unindent(body))),
            "start" => {
                self.start()?;
                self.weighed();
            }
            _ if host::change(&mut self.network, command)?
                || self.backends.change(command)?
                || self.names.change(command)? => {}
            _ => bail!("only `config`, `record`, the network, backends, names and `start` can be given"),
        }
        Ok(())
    }

    fn play(&mut self, time: Duration, command: &str, body: &[String]) -> Result<Vec<String>> {
        // What the daemon waited for took a part of the second before.
        ensure!(time.as_secs() >= self.clock.as_secs(), "time goes forward");
        self.begun = true;
        let mut happened = self.pass(time)?;
        self.clock = self.clock.max(time);
        if let Some(text) = self.shown(command)? {
            happened.extend(text.lines().map(str::to_owned));
            return Ok(happened);
        }
        if command == "start" {
            happened.extend(self.start()?);
            happened.extend(self.weighed());
        } else if let Some(event) = self.event(command, body)? {
            happened.extend(self.turn(event)?);
            happened.extend(self.weighed());
            happened.extend(self.pass(self.clock)?);
        }
        happened.extend(self.endings());
        if happened.is_empty() {
            happened.push("nothing".to_owned());
        }
        Ok(happened)
    }
}

impl Stage {
    /// What became of the node's fitness to be master, by instance of VRRP.
    fn weighed(&mut self) -> Vec<String> {
        let Some(daemon) = &mut self.daemon else {
            return Vec::new();
        };
        let told = |(instance, tracked): (String, Tracked)| match tracked {
            Tracked { fault: Some(why), .. } => format!("{instance}: fault: {why}"),
            Tracked {
                is_unfit: true, why, ..
            } => format!("{instance}: unfit: {why}"),
            Tracked { sum: 0, .. } => format!("{instance}: the priority of the file"),
            Tracked { sum, why, .. } => format!("{instance}: priority {sum:+}: {why}"),
        };
        daemon.world.take_weighed().into_iter().map(told).collect()
    }

    /// Of flows that end from now on, whatever their packets say.
    fn endings(&mut self) -> Vec<String> {
        let now = self.now().monotonic;
        let Some(daemon) = &mut self.daemon else {
            return Vec::new();
        };
        let terms = daemon.world.terms(now).into_iter();
        let ending: BTreeMap<_, _> = terms.filter_map(|(id, terms)| Some((id, terms.ending?))).collect();
        let before = std::mem::replace(&mut daemon.ending, ending.clone());
        let begun = ending.into_iter().filter(|(id, ending)| before.get(id) != Some(ending));
        begun
            .map(|(id, ending)| match ending {
                Ending::Reset => format!("reset the connections of backend {id}"),
                Ending::Release => format!("forget the UDP flows of backend {id}"),
            })
            .collect()
    }

    /// What falls due until then, and what that does.
    fn pass(&mut self, until: Duration) -> Result<Vec<String>> {
        let mut happened = Vec::new();
        while let Some((at, event)) = self.next_event(until) {
            let waited = at > self.clock;
            self.clock = self.clock.max(at);
            let mut lines = self.turn(event)?;
            lines.extend(self.weighed());
            let told = |line: String| match waited || at < until {
                true => format!("at {}s {line}", at.as_millis() as f64 / 1000.0),
                false => line,
            };
            happened.extend(lines.into_iter().map(told));
        }
        Ok(happened)
    }

    /// A reading of counters, the answer of a backend or of a name server, or a deadline of the daemon.
    fn next_event(&mut self, until: Duration) -> Option<(Duration, Event)> {
        let deadline = self.daemon.as_ref()?.world.next_deadline();
        let deadline = deadline.map(|at| at.saturating_duration_since(self.base));
        let (reading, answer, resolved) = (self.traffic.next(), self.backends.next(), self.names.next());
        let next = [reading, answer, resolved, deadline].into_iter().flatten().min()?;
        let at = Some(next).filter(|at| *at <= until);
        if at.is_some() && reading == at {
            let readable = self.traffic.count(&mut self.counters);
            return Some((next, Event::Counted(self.counted(readable))));
        }
        if at.is_some() && answer == at {
            return Some((next, Event::Observed(vec![self.backends.take()?])));
        }
        if at.is_some() && resolved == at {
            let (question, answer) = self.names.take()?;
            return Some((next, Event::Resolved(question, answer)));
        }
        at.map(|at| (at, Event::Tick))
    }

    /// A daemon that was there is gone without a word, as after a crash.
    fn start(&mut self) -> Result<Vec<String>> {
        let actual = self.kernel.state.clone();
        let world = World::adopt(&actual, self.now());
        self.daemon = Some(Daemon {
            world,
            actual,
            ending: BTreeMap::new(),
        });
        self.backends.forget();
        self.names.forget();
        for (kept, record) in self.records.clone() {
            self.learn(Event::Recalled(kept, Ok(record.into_bytes())))?;
        }
        self.learn(Event::Network(self.network.clone()))?;
        self.learn(read(&self.file))?;
        self.settle()?;
        self.act()
    }

    /// As the daemon does before it acts on a file: for a moment, until every backend is judged.
    fn settle(&mut self) -> Result<()> {
        let until = self.clock + ACQUAINTANCE;
        while self.daemon.as_ref().is_some_and(|daemon| daemon.world.is_undecided()) {
            let Some((at, event)) = self.next_event(until) else {
                break;
            };
            self.clock = self.clock.max(at);
            self.learn(event)?;
        }
        Ok(())
    }

    /// True: there may be something to do.
    fn learn(&mut self, event: Event) -> Result<bool> {
        let now = self.now();
        let daemon = self.daemon.as_mut().context("`start` comes first")?;
        let mut changed = daemon.world.handle(event, now);
        let wanted = daemon.world.take_wanted_counts();
        if !wanted.is_empty() {
            let packets = wanted.into_iter().map(|id| (id, self.traffic.carried(id, self.clock)));
            changed |= daemon.world.handle(Event::Carried(packets.collect()), now);
        }
        for launch in daemon.world.take_launches() {
            let target = daemon.world.target(launch.backend).context("a check is of somebody")?;
            self.backends.ask(launch, target, self.clock);
        }
        for question in daemon.world.take_questions() {
            self.names.ask(question, self.clock);
        }
        while let Some((kept, record)) = daemon.world.take_record() {
            self.records.insert(kept, record);
            daemon.world.handle(Event::Recorded(kept, Ok(())), now);
        }
        Ok(changed)
    }

    fn event(&mut self, command: &str, body: &[String]) -> Result<Option<Event>> {
        if host::change(&mut self.network, command)? {
            return Ok(Some(Event::Network(self.network.clone())));
        }
        if self.backends.change(command)? || self.names.change(command)? || self.traffic.change(command, self.clock)? {
            return Ok(None);
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        Ok(match words[..] {
            ["config"] => {
                self.file = unindent(body);
                Some(read(&self.file))
            }
            ["flows", ref counts @ ..] => Some(Event::FlowCounts(flow_counts(counts)?)),
            ["refused", ref counts @ ..] => Some(self.refused(counts)?),
            ["frames", name, sent, lost] => Some(Event::FramesSent(self.frames(name, sent, lost)?)),
            ["disable", name, "by", by] => Some(said(name, Change::Disable, by)?),
            ["enable", name, "by", by] => Some(said(name, Change::Enable, by)?),
            ["drain", name, "by", by] => Some(said(name, Change::Drain, by)?),
            ["undrain", name, "by", by] => Some(said(name, Change::Undrain, by)?),
            ["weight", name, weight, "by", by] => Some(said(name, Change::Weight(weight.parse()?), by)?),
            ["kernel", "fails", ..] => {
                self.kernel.failing.push(words[2..].join(" "));
                None
            }
            ["kernel", "obeys"] => {
                self.kernel.failing.clear();
                None
            }
            ["wait"] => None,
            _ => bail!("no such command"),
        })
    }

    /// `sent=100 lost=3`: what the driver of the interface has counted so far.
    fn frames(&self, name: &str, sent: &str, lost: &str) -> Result<BTreeMap<u32, Sent>> {
        let count = |text: &str, key| -> Result<u64> {
            let number = text.strip_prefix(key).context("frames are sent=COUNT lost=COUNT")?;
            Ok(number.parse()?)
        };
        let sent = Sent {
            sent: count(sent, "sent=")?,
            lost: count(lost, "lost=")?,
        };
        Ok(BTreeMap::from([(host::index(&self.network, name)?, sent)]))
    }

    /// `flow_table_full=5`, or, for want of a port, `2=5`: five flows towards backend 2. The kernel counts on.
    fn refused(&mut self, counts: &[&str]) -> Result<Event> {
        for count in counts {
            let (what, count) = count.split_once('=').context("a count is WHAT=COUNT")?;
            let count: u64 = count.parse()?;
            let (reason, backend) = match what.parse::<BackendId>() {
                Ok(backend) => (Reason::SnatPortsExhausted, Some(backend)),
                Err(_) => {
                    let reason = Reason::ALL.iter().find(|reason| reason.name() == what);
                    (*reason.with_context(|| format!("{what:?} is no reason"))?, None)
                }
            };
            *self.counters.verdicts.entry(reason).or_default() += count;
            if let Some(backend) = backend {
                self.counters.traffic.entry(backend).or_default().ports_exhausted += count;
            }
        }
        Ok(Event::Counted(self.counted(true)))
    }

    fn counted(&self, readable: bool) -> Counted {
        let by_backend = self.counters.traffic.iter();
        let traffic = readable.then(|| self.counters.traffic.clone());
        Counted {
            verdicts: self.counters.verdicts.clone(),
            ports_exhausted: by_backend.map(|(id, traffic)| (*id, traffic.ports_exhausted)).collect(),
            traffic: traffic.unwrap_or_default(),
        }
    }

    /// One turn of the daemon's loop.
    fn turn(&mut self, event: Event) -> Result<Vec<String>> {
        let is_file = matches!(event, Event::Config(_));
        if !self.learn(event)? {
            return Ok(Vec::new());
        }
        if is_file {
            self.settle()?;
        }
        self.act()
    }

    fn act(&mut self) -> Result<Vec<String>> {
        let now = self.now();
        let daemon = self.daemon.as_mut().context("`start` comes first")?;
        let goal = desired(&daemon.world);
        ensure!(
            goal.unsafe_reason().is_none(),
            "desired state is unsafe: {:?}",
            goal.unsafe_reason()
        );
        let mut happened = Vec::new();
        let mut unsafe_reason = None;
        let failures = carry_out(&mut daemon.actual, &goal, |action| {
            let result = self.kernel.take(action);
            happened.push(
                result
                    .as_ref()
                    .map_or_else(|error| format!("{action} FAILS: {error}"), |()| action.to_string()),
            );
            unsafe_reason = unsafe_reason.take().or_else(|| self.kernel.state.unsafe_reason());
            result
        });
        ensure!(
            unsafe_reason.is_none(),
            "unsafe on the way: {unsafe_reason:?} in {happened:#?}"
        );
        ensure!(
            daemon.actual == self.kernel.state,
            "the daemon is wrong about the kernel"
        );
        let rest = plan::diff(&daemon.actual, &goal);
        ensure!(rest.is_empty() || !failures.is_empty(), "left undone: {rest:?}");
        daemon.world.handle(Event::Failures(failures), now);
        if self.show_programs() {
            happened.extend(self.turn(Event::Network(self.network.clone()))?);
        }
        Ok(happened)
    }

    /// As the next picture of the network has them on the links; false when nothing is new.
    fn show_programs(&mut self) -> bool {
        let before = self.network.clone();
        for (ifindex, link) in &mut self.network.links {
            let attached = self.kernel.state.attached.get(ifindex);
            link.xdp = attached.map(|attachment| XdpAttachment {
                program_id: 1,
                mode: match attachment.mode {
                    Xdp::Generic => XdpMode::Generic,
                    Xdp::Auto | Xdp::Native => XdpMode::Native,
                },
            });
        }
        self.network != before
    }

    /// What an operator gets to read, if the command is one for that.
    fn shown(&self, command: &str) -> Result<Option<String>> {
        let daemon = || self.daemon.as_ref().context("`start` comes first");
        if command == "status" {
            return self.status().map(Some);
        }
        if command == "dns" {
            let names = document::documents(&daemon()?.world, self.now());
            return Ok(Some(document::render(&names)));
        }
        if command == "events" {
            let events = explain::events(&daemon()?.world);
            return Ok(Some(
                events.iter().map(|event| explain::render_event(event) + "\n").collect(),
            ));
        }
        let Some(name) = command.strip_prefix("explain ") else {
            return Ok(None);
        };
        let explained = explain::explain(&daemon()?.world, &self::name(name)?).context("no such backend")?;
        Ok(Some(explain::render(&explained)))
    }

    fn status(&self) -> Result<String> {
        let daemon = self.daemon.as_ref().context("`start` comes first")?;
        let about = About {
            host: "lb-a",
            version: "0.1.0",
            config: Path::new("/etc/naru/naru.toml"),
        };
        let now = self.now().monotonic;
        Ok(render(&Status::of(
            &daemon.world,
            &daemon.actual,
            &self.counters,
            &about,
            now,
        )))
    }

    fn now(&self) -> Moment {
        Moment {
            monotonic: self.base + self.clock,
            wall: UNIX_EPOCH + START + self.clock,
        }
    }
}

impl Kernel {
    fn take(&mut self, action: &Action) -> Result<(), &'static str> {
        let words = action.to_string();
        if self.failing.iter().any(|start| words.starts_with(start.as_str())) {
            return Err("no memory");
        }
        self.state.apply(action);
        Ok(())
    }
}

fn read(file: &str) -> Event {
    let errors = |found: Vec<lb_userspace::core::config::Diagnostic>| {
        found
            .iter()
            .map(|diagnostic| diagnostic.headline())
            .collect::<Vec<_>>()
            .join("\n")
    };
    Event::Config(parse("naru.toml", file).map_err(errors))
}

fn said(name: &str, change: Change, by: &str) -> Result<Event> {
    Ok(Event::Override {
        name: self::name(name)?,
        change,
        by: by.to_owned(),
    })
}

fn name(text: &str) -> Result<Name> {
    let (service, backend) = text.split_once('/').context("a backend is SERVICE/BACKEND")?;
    Ok(Name {
        service: service.to_owned(),
        backend: backend.to_owned(),
    })
}

/// `2=5`: backend 2 has five flows.
fn flow_counts(counts: &[&str]) -> Result<BTreeMap<BackendId, u64>> {
    let count = |text: &&str| {
        let (id, flows) = text.split_once('=').context("flows are ID=COUNT")?;
        Ok((id.parse()?, flows.parse()?))
    };
    counts.iter().map(count).collect()
}

fn unindent(body: &[String]) -> String {
    let margin = body
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min();
    body.iter()
        .map(|line| line.get(margin.unwrap_or(0)..).unwrap_or_default().to_owned() + "\n")
        .collect()
}
