//! The real program on maps of its own, fed one frame at a time beside the model: both must do the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions};
use lb_common::abi::{BackendId, Traffic};
use lb_common::decide::Verdict;
use lb_common::flow_table::{FlowMemory, Word};
use lb_common::verdict::Reason;
use lb_userspace::core::kernel::{Action as KernelAction, KernelState};
use lb_userspace::io::bpf::Kernel;

use super::model::Model;

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
    /// None for what was sent.
    pub reason: Option<Reason>,
    pub frame: Vec<u8>,
}

pub struct Runner {
    pub kernel: Kernel,
    pub model: Model,
    state: KernelState,
    pin_dir: PathBuf,
    verdicts: BTreeMap<Reason, u64>,
    /// As they stood when the model began.
    traffic: BTreeMap<BackendId, Traffic>,
}

const FLOWS: u32 = 1024;

impl Runner {
    pub fn new(state: &KernelState) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/naru-lab-{}-packets{number}", std::process::id()));
        let mut kernel = Kernel::open(&pin_dir, FLOWS)?;
        fill(&mut kernel, state)?;
        let model = Model::new(state.clone(), kernel.flows().mask() as usize + 1);
        let verdicts = kernel.verdicts()?;
        Ok(Self {
            kernel,
            model,
            state: state.clone(),
            pin_dir,
            verdicts,
            traffic: BTreeMap::new(),
        })
    }

    /// An empty flow table, and counters from zero.
    pub fn forget_flows(&mut self) -> Result<()> {
        for index in 0..=self.kernel.flows().mask() {
            let entry = self.kernel.flows().entry(index).context("an entry")?;
            entry.swap(entry.word(), Word(0));
        }
        self.model = Model::new(self.state.clone(), self.kernel.flows().mask() as usize + 1);
        self.verdicts = self.kernel.verdicts()?;
        for id in self.state.backends.keys() {
            self.traffic.insert(*id, self.kernel.traffic(*id)?);
        }
        Ok(())
    }

    /// Puts `to` in all slots of `from`, in the program's tables and the model's.
    pub fn replace_backend(&mut self, from: BackendId, to: BackendId) -> Result<()> {
        for slots in self.model.state.slots.values_mut() {
            for slot in slots.iter_mut().filter(|slot| **slot == from) {
                *slot = to;
            }
        }
        self.kernel
            .apply(&KernelAction::PutSlots(self.model.state.slots.clone()))
    }

    /// One frame through the program and the model, which must agree on all they did.
    pub fn send(&mut self, frame: &[u8]) -> Result<Outcome> {
        let (action, sent) = self.test_run(frame)?;
        let counted = self.kernel.verdicts()?;
        let mut reasons = counted
            .iter()
            .filter(|(reason, count)| **count != self.verdicts[reason]);
        let reason = reasons.next().map(|(reason, _)| *reason);
        ensure!(reasons.next().is_none(), "one frame was counted for two reasons");
        self.verdicts = counted;
        let outcome = Outcome {
            action,
            reason,
            frame: sent,
        };

        let mut frame = frame.to_vec();
        let expected = match self.model.run(&mut frame, INGRESS) {
            Verdict::Send(INGRESS) => Outcome {
                action: Action::Tx,
                reason: None,
                frame,
            },
            Verdict::Send(_) => Outcome {
                action: Action::Redirect,
                reason: None,
                frame,
            },
            Verdict::Stop(reason) => {
                let action = if reason.passes() { Action::Pass } else { Action::Drop };
                Outcome {
                    action,
                    reason: Some(reason),
                    frame,
                }
            }
        };
        ensure!(
            outcome == expected,
            "the kernel did\n{outcome:02x?}\nand the host\n{expected:02x?}"
        );
        Ok(outcome)
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

    /// The per-backend counters of both sides must be equal, too.
    pub fn check_traffic(&self) -> Result<()> {
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

fn since(before: &Traffic, after: &Traffic) -> Traffic {
    Traffic {
        new_flows: after.new_flows - before.new_flows,
        packets_to_backend: after.packets_to_backend - before.packets_to_backend,
        bytes_to_backend: after.bytes_to_backend - before.bytes_to_backend,
        packets_to_client: after.packets_to_client - before.packets_to_client,
        bytes_to_client: after.bytes_to_client - before.bytes_to_client,
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.pin_dir) {
            eprintln!("left over: {}: {error}", self.pin_dir.display());
        }
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
    let slots = state
        .slots
        .iter()
        .map(|(id, slots)| KernelAction::PutSlots([(*id, slots.clone())].into()));
    let listens = state
        .listens
        .iter()
        .map(|(listen, service)| KernelAction::PutListen(*listen, *service));
    for action in routes.chain(backends).chain(slots).chain(listens) {
        kernel.apply(&action)?;
    }
    Ok(())
}
