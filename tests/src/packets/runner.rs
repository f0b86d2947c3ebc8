//! The real program on maps of its own, fed one frame at a time beside the model: both must do the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{TestRun, TestRunOptions};
use lb_common::abi::{BackendId, Traffic};
use lb_common::decide::Verdict;
use lb_common::flow_table::{FlowMemory, TICK_SHIFT};
use lb_common::lease::{FOR_GOOD, LeaseId};
use lb_common::signs::Signal;
use lb_common::stage::Stage;
use lb_common::verdict::Reason;
use lb_common::wire::{Be32, Ip};
use lb_userspace::core::endings::{Ending, Terms};
use lb_userspace::core::kernel::{Action as KernelAction, KernelState};
use lb_userspace::io::bpf::{Kernel, Signs};
use lb_userspace::io::flows::Sweep;
use rustix::time::{ClockId, clock_gettime};

use super::builder::Builder;
use super::model::Model;
use super::notes::{Notes, map};
use super::tables::{agree, begin, empty, end, free_as, grow_older, sever_all};

/// The interface test runs come in by: the loopback device's index.
pub const INGRESS: u32 = 1;

/// What the program answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pass,
    Drop,
    /// Out of the interface it came in by.
    Tx,
    Redirect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub action: Action,
    /// None for what was sent on.
    pub reason: Option<Reason>,
    pub frame: Vec<u8>,
}

pub struct Runner {
    pub kernel: Kernel,
    pub model: Model,
    state: KernelState,
    verdicts: BTreeMap<Reason, u64>,
    /// As they stood when the model began.
    traffic: BTreeMap<BackendId, Traffic>,
    notes: Notes,
    signs: Signs,
    /// By the kernel, since the model began.
    told: Vec<Signal>,
}

const FLOWS: u32 = 1024;
/// Of ours; the usual client's port as well.
pub const FIRST_PORT: u16 = 2000;

impl Runner {
    pub fn new(state: &KernelState) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/naru-lab-{}-packets{number}", std::process::id()));
        let mut kernel = Kernel::open(&pin_dir, FLOWS)?;
        let signs = kernel.take_signs()?;
        // Its maps live as long as it holds them, and nothing is to stay when the tests are gone.
        std::fs::remove_dir_all(&pin_dir).context("remove the pins")?;
        fill(&mut kernel, state)?;
        let model = Model::new(state.clone(), kernel.flows().ipv4.mask() as usize + 1);
        let verdicts = kernel.verdicts()?;
        Ok(Self {
            notes: Notes::of(&kernel)?,
            kernel,
            model,
            state: state.clone(),
            verdicts,
            traffic: BTreeMap::new(),
            signs,
            told: Vec::new(),
        })
    }

    /// Everything as at first: no flow, the slots that were given, counters from zero.
    pub fn reset(&mut self) -> Result<()> {
        let flows = self.kernel.flows();
        empty(&flows.ipv4);
        empty(&flows.ipv6);
        empty::<Be32>(&self.model);
        empty::<Ip>(&self.model);
        if !self.model.stages.get() {
            self.restore_stages()?;
        }
        if self.model.state != self.state {
            fill(&mut self.kernel, &self.state)?;
            self.model.state.clone_from(&self.state);
        }
        self.model.traffic.take();
        self.model.verdicts.take();
        self.notes
            .forget_ticks(&self.model, self.state.backends.keys().copied())?;
        self.signs.by_ref().for_each(drop);
        self.told.clear();
        self.set_leases(FOR_GOOD);
        self.model.signs.take();
        self.verdicts = self.kernel.verdicts()?;
        for id in self.state.backends.keys() {
            self.traffic.insert(*id, self.kernel.traffic(*id)?);
        }
        self.next_port(FIRST_PORT)
    }

    /// The next flow of a backend tries this port first, where it has one address.
    pub fn next_port(&mut self, port: u16) -> Result<()> {
        self.notes.next_port(&self.model, self.state.backends.values(), port)
    }

    /// All leases, on both sides.
    pub fn set_leases(&mut self, until: u64) {
        for (id, lease) in self.model.leases.iter().enumerate() {
            self.kernel.leases().set(id as LeaseId, until);
            lease.set(until);
        }
    }

    /// `to` takes all slots of `from`, and its weight.
    pub fn replace_backend(&mut self, from: BackendId, to: BackendId) -> Result<()> {
        let state = &mut self.model.state;
        for slot in state.slots.values_mut().flatten().filter(|slot| **slot == from) {
            *slot = to;
        }
        for (id, weight) in [(from, 0), (to, 1)] {
            state.backends.get_mut(&id).context("a backend of the table")?.weight = weight;
        }
        fill(&mut self.kernel, state)
    }

    /// Frees the flow of a client's packet in both tables, as a sweep does.
    pub fn end_flow(&mut self, of: &Builder) {
        let flows = self.kernel.flows();
        if of.source.is_ipv4() {
            end::<Be32>(&flows.ipv4, of);
            end::<Be32>(&self.model, of);
        } else {
            end::<Ip>(&flows.ipv6, of);
            end::<Ip>(&self.model, of);
        }
    }

    /// Ends the flows of all backends in both tables, as a sweep does for a lost one; the frames for their peers.
    pub fn lose_backends(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut frames = Vec::new();
        for ending in [Ending::Release, Ending::Reset] {
            self.sweep_kernel(Some(ending), &mut |ifindex, frame| {
                frames.push((ifindex, frame.to_vec()))
            });
        }
        // Some may have been over by themselves, and time goes by.
        let flows = self.kernel.flows();
        free_as(&flows.ipv4, &self.model);
        free_as(&flows.ipv6, &self.model);
        sever_all::<Be32>(&self.model, now());
        sever_all::<Ip>(&self.model, now());
        agree(&flows.ipv4, &self.model);
        agree(&flows.ipv6, &self.model);
        frames
    }

    /// Frees the flows that were silent for too long, as the daemon does once a second; tells how many.
    pub fn sweep(&mut self) -> usize {
        let flows = self.kernel.flows();
        let before = flows.iter().count();
        self.sweep_kernel(None, &mut |_, _| ());
        free_as(&flows.ipv4, &self.model);
        free_as(&flows.ipv6, &self.model);
        before - flows.iter().count()
    }

    fn sweep_kernel(&self, ending: Option<Ending>, send: &mut dyn FnMut(u32, &[u8])) {
        let terms = Terms {
            idle_timeout: None,
            ending,
        };
        let backends = self.state.backends.keys();
        let mut sweep = Sweep::new(backends.map(|id| (*id, terms)).collect());
        while let Err(under_way) = self.kernel.flows().sweep(sweep, &self.state, send) {
            sweep = under_way;
        }
    }

    /// The flow of a client's packet is just being opened by another CPU.
    pub fn begin_elsewhere(&mut self, of: &Builder) {
        let flows = self.kernel.flows();
        if of.source.is_ipv4() {
            begin::<Be32>(&flows.ipv4, of);
            begin::<Be32>(&self.model, of);
        } else {
            begin::<Ip>(&flows.ipv6, of);
            begin::<Ip>(&self.model, of);
        }
    }

    /// So many ticks go by in silence, for all flows.
    pub fn pass_time(&mut self, ticks: u32) {
        let flows = self.kernel.flows();
        grow_older(&flows.ipv4, ticks);
        grow_older(&flows.ipv6, ticks);
        grow_older::<Be32>(&self.model, ticks);
        grow_older::<Ip>(&self.model, ticks);
    }

    /// What the stages behind the first would do, nobody does until the reset.
    pub fn remove_stages(&mut self) -> Result<()> {
        let mut stages = self.stages()?;
        for stage in Stage::ALL {
            stages.clear_index(&(stage as u32))?;
        }
        self.model.stages.set(false);
        Ok(())
    }

    fn restore_stages(&mut self) -> Result<()> {
        let mut stages = self.stages()?;
        let programs = self.kernel.programs()?;
        for stage in Stage::ALL {
            stages.set(stage as u32, &programs[stage.name()].fd()?, 0)?;
        }
        self.model.stages.set(true);
        Ok(())
    }

    fn stages(&self) -> Result<ProgramArray<MapData>> {
        Ok(ProgramArray::try_from(Map::ProgramArray(map(&self.kernel, "STAGES")?))?)
    }

    /// One frame through the program and the model, which must agree on all they did.
    pub fn send(&mut self, frame: &[u8]) -> Result<Outcome> {
        let before = now();
        let (action, sent) = self.test_run(frame)?;
        let after = now();
        self.model.now.set(before);
        // Where a tick went by the program may have read either.
        let saved = (before != after).then(|| self.model.clone());
        let mut outcome = self.on_host(frame)?;
        if let Some(saved) = saved {
            if (action, &sent) != (outcome.action, &outcome.frame) {
                self.model = saved;
                self.model.now.set(after);
                outcome = self.on_host(frame)?;
            }
            self.agree_on_time()?;
        }
        ensure!(
            (action, &sent) == (outcome.action, &outcome.frame),
            "the kernel did {action:?}\n{sent:02x?}\nand the host\n{outcome:02x?}"
        );
        // Before the ring is full.
        self.told.extend(self.signs.by_ref());
        // Reading one counter takes longer than all else: that no other has moved is seen in the end.
        if let Some(reason) = outcome.reason {
            let count = self.verdicts.get_mut(&reason).context("a counter of the kernel")?;
            *count += 1;
            let counted = self.kernel.verdicts_for(reason)?;
            ensure!(
                counted == *count,
                "the host says {}, the kernel another reason",
                reason.name()
            );
        }
        Ok(outcome)
    }

    /// What the program has noted of the time holds for the host, too.
    fn agree_on_time(&mut self) -> Result<()> {
        let flows = self.kernel.flows();
        agree(&flows.ipv4, &self.model);
        agree(&flows.ipv6, &self.model);
        self.notes.agree(&self.model, self.state.backends.keys().copied())?;
        self.told.extend(self.signs.by_ref());
        self.model.signs.borrow_mut().clone_from(&self.told);
        Ok(())
    }

    fn on_host(&self, frame: &[u8]) -> Result<Outcome> {
        let mut frame = frame.to_vec();
        let (action, reason) = match self.model.run(&mut frame, INGRESS) {
            Verdict::Send(INGRESS) => (Action::Tx, None),
            Verdict::Send(_) => (Action::Redirect, None),
            Verdict::Answer(reason) => (Action::Tx, Some(reason)),
            Verdict::Stop(reason) if reason.passes() => (Action::Pass, Some(reason)),
            Verdict::Stop(reason) => (Action::Drop, Some(reason)),
            Verdict::Next(stage) => bail!("the host stopped before {}", stage.name()),
        };
        Ok(Outcome { action, reason, frame })
    }

    fn test_run(&mut self, frame: &[u8]) -> Result<(Action, Vec<u8>)> {
        let mut sent = vec![0; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut sent),
            ..TestRunOptions::default()
        };
        let result = self
            .kernel
            .program()
            .test_run(options)
            .context("run the program on a frame")?;
        sent.truncate(result.data_size_out as usize);
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Tx,
            4 => Action::Redirect,
            other => bail!("the program answered {other}, which is no verdict"),
        };
        Ok((action, sent))
    }

    /// All counters of both sides must be equal.
    /// And what was told of backends.
    pub fn check_counters(&mut self) -> Result<()> {
        self.told.extend(self.signs.by_ref());
        let told = self.model.signs.borrow();
        ensure!(self.told == *told, "the kernel told {:?}, the host {told:?}", self.told);
        drop(told);
        let counted = self.kernel.verdicts()?;
        ensure!(
            counted == self.verdicts,
            "verdicts: the kernel counted {counted:?}, the host {:?}",
            self.verdicts
        );
        for id in self.state.backends.keys() {
            let before = self.traffic.get(id).copied().unwrap_or_default();
            let counted = since(&before, &self.kernel.traffic(*id)?);
            let expected = self.model.traffic.borrow().get(id).copied().unwrap_or_default();
            ensure!(
                counted == expected,
                "backend {id}: the kernel counted {counted:?}, the host {expected:?}"
            );
        }
        Ok(())
    }
}

/// As the program reads it.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn now() -> u32 {
    (now_ns() >> TICK_SHIFT) as u32
}

fn since(before: &Traffic, after: &Traffic) -> Traffic {
    Traffic {
        new_flows: after.new_flows - before.new_flows,
        packets_to_backend: after.packets_to_backend - before.packets_to_backend,
        bytes_to_backend: after.bytes_to_backend - before.bytes_to_backend,
        packets_to_client: after.packets_to_client - before.packets_to_client,
        bytes_to_client: after.bytes_to_client - before.bytes_to_client,
        ports_exhausted: after.ports_exhausted - before.ports_exhausted,
    }
}

fn fill(kernel: &mut Kernel, state: &KernelState) -> Result<()> {
    let routes = state
        .routes
        .iter()
        .map(|(prefix, route)| KernelAction::PutRoute(*prefix, *route));
    let backends = state
        .backends
        .iter()
        .map(|(id, backend)| KernelAction::PutBackend(*id, *backend));
    let slots = [KernelAction::PutSlots(state.slots.clone())];
    let shared = state
        .shared
        .iter()
        .map(|(address, lease)| KernelAction::PutShared(*address, *lease));
    let listens = state
        .listens
        .iter()
        .map(|(listen, service)| KernelAction::PutListen(*listen, *service));
    for action in routes.chain(backends).chain(slots).chain(shared).chain(listens) {
        kernel.apply(&action)?;
    }
    Ok(())
}
