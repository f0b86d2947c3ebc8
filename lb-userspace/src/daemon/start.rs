//! From a file's name to a daemon that serves it, or to an error with everything as it was before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use tracing::{info, warn};

use super::ownership::with_secrets;
use super::report::Told;
use super::{Daemon, now};
use crate::core::config::{self, Config, Diagnostic, Parsed};
use crate::core::keeping::Kept;
use crate::core::kernel::{Action, KernelState};
use crate::core::network::Network;
use crate::core::plan;
use crate::core::world::{Event, World};
use crate::io::bpf::{AwaitedSigns, Kernel};
use crate::io::control::Control;
use crate::io::dns::Resolver;
use crate::io::driver_counters::DriverCounters;
use crate::io::frames::Frames;
use crate::io::hooks::Hooks;
use crate::io::probes::Crew;
use crate::io::record::Records;
use crate::io::secret_files::SecretFiles;
use crate::io::watched::Programs;
use crate::io::{config_file, netlink, privileges};

/// So many interfaces that this host does not have are named.
const COMPLAINTS: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        path: PathBuf,
        error: config_file::ReadError,
    },
    #[error("{} has errors", path.display())]
    Config {
        path: PathBuf,
        text: String,
        found: Vec<Diagnostic>,
    },
    /// The configuration is good, this host does not let it be served.
    #[error("{0:#}; nothing is changed")]
    Host(anyhow::Error),
}

impl Daemon {
    pub(super) async fn start(path: PathBuf) -> Result<Self, StartError> {
        let unreadable = |error| StartError::Unreadable {
            path: path.clone(),
            error,
        };
        let text = config_file::read_in_time(&path).await.map_err(unreadable)?;
        let parsed = config::parse(&path.display().to_string(), &text).map_err(|found| StartError::Config {
            path: path.clone(),
            text: text.clone(),
            found,
        })?;
        Self::start_with(path, text, parsed).await.map_err(StartError::Host)
    }

    async fn start_with(path: PathBuf, text: String, parsed: Parsed) -> anyhow::Result<Self> {
        privileges::check()?;
        let mut network = netlink::Watch::open().await?;
        let picture = network.network();
        check_interfaces(&parsed.config, None, &picture).map_err(|reason| anyhow!(reason))?;
        let node = parsed.config.node.clone();
        let control = Control::bind(&node.run_dir)?;
        let records = Records::open(&node.state_dir)?;
        let file = config_file::Watch::open(&path, text.clone())?;
        let frames = Frames::open()?;
        let mut kernel = Kernel::open(&node.pin_dir, node.max_flows)?;
        let signs = AwaitedSigns::new(kernel.take_signs()?)?;
        let mut daemon = Self {
            path,
            tried: Ok(text),
            world: World::default(),
            actual: KernelState::default(),
            kernel,
            signs,
            frames,
            drivers: DriverCounters::open()?,
            sweep: None,
            swept: Instant::now(),
            ways_moved: false,
            passes: 0,
            lost: BTreeSet::new(),
            ending: BTreeMap::new(),
            exhausted: None,
            network,
            file,
            control,
            records,
            promised: Vec::new(),
            crew: Crew::gather().context("wait for answers to checks")?,
            resolver: Resolver::default(),
            ownership: None,
            hooks: Hooks::open(),
            programs: Programs::default(),
            secret_files: SecretFiles::open(),
            told: Told::default(),
        };
        match daemon.take_over(picture, parsed).await {
            Ok(()) => {
                daemon.set_aside_damaged();
                Ok(daemon)
            }
            Err(error) => {
                daemon.undo_start();
                Err(error)
            }
        }
    }

    /// All interfaces, or none: half a load balancer would take clients' packets it cannot bring anywhere.
    async fn take_over(&mut self, picture: Network, file: Parsed) -> anyhow::Result<()> {
        self.actual = self.kernel.snapshot().context("read back what the pinned maps hold")?;
        let before = self.actual.clone();
        self.world = World::adopt(&before, now());
        // It must be known before anything is steered.
        for kept in Kept::ALL {
            if let Some(record) = self.records.read(kept) {
                self.learn(Event::Recalled(kept, record));
            }
        }
        self.learn(Event::Network(picture));
        let config = file.config.clone();
        self.learn(Event::Config(Ok(file)));
        if let Some(reason) = self.world.refused() {
            bail!("{}: {reason}", self.path.display());
        }
        let instances = with_secrets(&config).await?;
        self.begin_sharing(&config).await?;
        self.settle(|daemon| !daemon.world.is_undecided() && daemon.are_known(daemon.world.to_resolve().iter()))
            .await;
        self.act();
        let mut failures = self.world.failures().iter();
        let attach = failures.find(|failure| matches!(failure.action, Action::Attach(..)));
        if let Some(failure) = attach {
            let error = anyhow!(failure.error.clone());
            self.go_back(&before);
            return Err(error);
        }
        self.settle(Self::programs_are_seen).await;
        self.act();
        self.keep_shared(instances);
        self.tell_all();
        let interfaces: Vec<&str> = self.actual.attached.values().map(|at| at.interface.as_str()).collect();
        info!(path = %self.path.display(), interfaces = interfaces.join(","), services = self.actual.slots.len(), "serving");
        Ok(())
    }

    /// Before anything is written in its place.
    fn set_aside_damaged(&self) {
        for kept in Kept::ALL.into_iter().filter(|kept| self.world.is_damaged(*kept)) {
            match self.records.set_aside(kept) {
                Ok(path) => warn!(path = %path.display(), "a record that is damaged is set aside"),
                Err(error) => warn!(%error, "cannot set aside a record that is damaged"),
            }
        }
    }

    pub(super) fn are_known<'a>(&self, mut neighbours: impl Iterator<Item = &'a (u32, IpAddr)>) -> bool {
        let network = self.world.network();
        neighbours.all(|neighbour| network.is_some_and(|network| network.neighbours.contains_key(neighbour)))
    }

    /// The status is to say from the first moment which mode each interface got.
    fn programs_are_seen(&self) -> bool {
        let link = |ifindex| self.world.network()?.links.get(ifindex);
        let seen = |ifindex| link(ifindex).is_some_and(|link| link.xdp.is_some());
        self.actual.attached.keys().all(seen)
    }

    fn go_back(&mut self, before: &KernelState) {
        let failures = plan::carry_out(&mut self.actual, before, |action| {
            self.kernel.apply(action).map_err(|error| format!("{error:#}"))
        });
        for failure in failures {
            warn!(error = failure.error, "cannot undo a step of this start");
        }
    }

    fn undo_start(self) {
        if let Err(error) = self.kernel.undo_start() {
            warn!(error = format!("{error:#}"), "cannot remove the pins of this start");
        }
    }
}

/// Names that no interface has: the world would wait for them in silence. Those that `applied` has already are no
/// mistake: an interface that is away for a while must not bar other changes.
pub(super) fn check_interfaces(config: &Config, applied: Option<&Config>, network: &Network) -> Result<(), String> {
    let accepted = applied.and_then(|applied| applied.node.interfaces.as_ref());
    let accepted = |name| accepted.is_some_and(|names| names.contains(name));
    let present: Vec<&str> = network.links.values().map(|link| link.name.as_str()).collect();
    let mut complaints = Vec::new();
    let mut more = 0;
    for name in config
        .node
        .interfaces
        .iter()
        .flatten()
        .filter(|name| !present.contains(&name.as_str()) && !accepted(name))
    {
        if complaints.len() == COMPLAINTS {
            more += 1;
            continue;
        }
        let hint = config::nearest(name, &present)
            .map(|meant| format!("; did you mean {meant:?}?"))
            .unwrap_or_default();
        complaints.push(format!("[node] interfaces: this host has no {name:?}{hint}"));
    }
    for name in config.vrrp.values().map(|instance| &*instance.settings.interface) {
        let attached = config.node.interfaces.as_ref();
        if attached.is_some_and(|attached| !attached.iter().any(|other| other == name)) {
            return Err(format!(
                "[node] interfaces is without {name:?}, where addresses are shared: a dead daemon could not be fenced there"
            ));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    if more > 0 {
        complaints.push(format!("nor {more} others"));
    }
    complaints.push(format!("its interfaces are {}", present.join(", ")));
    Err(complaints.join("; "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::config::{Dns, Node, Xdp};
    use crate::core::network::{Device, Link};

    fn host(names: &[&str]) -> Network {
        let link = |name: &&str| Link {
            name: (*name).to_owned(),
            mac: [2; 6],
            up: true,
            mtu: 1500,
            addresses: vec![],
            xdp: None,
            device: Device::Card,
        };
        Network {
            links: (1..).zip(names.iter().map(link)).collect(),
            ..Network::default()
        }
    }

    fn wanting(interfaces: Option<&[&str]>) -> Config {
        let node = Node {
            name: None,
            interfaces: interfaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            xdp: Xdp::Auto,
            run_dir: "/run/naru".into(),
            state_dir: "/var/lib/naru".into(),
            pin_dir: "/sys/fs/bpf/naru".into(),
            max_flows: 1024,
        };
        Config {
            node,
            dns: Dns {
                servers: None,
                min_ttl: Duration::from_secs(1),
                max_ttl: Duration::from_secs(30),
            },
            services: BTreeMap::new(),
            alarms: BTreeMap::new(),
            vrrp: BTreeMap::new(),
        }
    }

    #[test]
    fn an_unknown_interface_is_named_with_what_may_be_meant() {
        let host = host(&["lo", "eth0", "eth1"]);
        assert_eq!(check_interfaces(&wanting(Some(&["eth1"])), None, &host), Ok(()));
        assert_eq!(check_interfaces(&wanting(None), None, &host), Ok(()));
        let refusal = check_interfaces(&wanting(Some(&["eht0", "eth1", "bond"])), None, &host).unwrap_err();
        assert_eq!(
            refusal,
            "[node] interfaces: this host has no \"eht0\"; did you mean \"eth0\"?; \
             [node] interfaces: this host has no \"bond\"; its interfaces are lo, eth0, eth1"
        );
        let many: Vec<String> = (0..1000).map(|number| format!("none{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let refusal = check_interfaces(&wanting(Some(&many)), None, &host).unwrap_err();
        assert!(
            refusal.contains("\"none9\"; nor 990 others; its interfaces"),
            "{refusal}"
        );
        let applied = wanting(Some(&["eth0", "bond"]));
        assert_eq!(
            check_interfaces(&wanting(Some(&["bond", "lo"])), Some(&applied), &host),
            Ok(())
        );
        let refusal = check_interfaces(&wanting(Some(&["bond", "eht0"])), Some(&applied), &host).unwrap_err();
        assert!(
            refusal.contains("no \"eht0\"") && !refusal.contains("bond"),
            "{refusal}"
        );
    }
}
