//! What a story of VRRP acts on: nodes and wires, by their names.
//!
//! Regular adverts are not told, only the first of each priority. Who serves an address is, whenever it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::core::vrrp::command::What;
use lb_userspace::core::vrrp::machine::Link;
use lb_userspace::core::vrrp::settings::Settings;
use lb_userspace::core::vrrp::track::Tracked;

use super::net::{Net, Quality};
use super::words;
use crate::scenario::Scene;

/// Of a quiet network, so that every figure of a story is exact.
const QUALITY: Quality = Quality {
    delay: (Duration::from_micros(200), Duration::from_micros(200)),
    loss: 0,
    lag: Duration::ZERO,
};

pub struct Stage {
    net: Net,
    begun: bool,
    /// By node and instance.
    priorities: BTreeMap<(usize, Arc<str>), u8>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            net: Net::new(QUALITY, 1),
            begun: false,
            priorities: BTreeMap::new(),
        }
    }
}

impl Scene for Stage {
    fn prepare(&mut self, command: &str, _: &[String]) -> Result<()> {
        let words: Vec<&str> = command.splitn(4, ' ').collect();
        match words[..] {
            ["node", name, addresses] => self.add(name, addresses),
            [node, "has", instance] => self.has(node, instance, ""),
            [node, "has", instance, settings] => self.has(node, instance, settings),
            _ => bail!("`node NAME ADDRESS` and `NODE has INSTANCE KEY=VALUE…` can be given"),
        }
    }

    fn play(&mut self, time: Duration, command: &str, _: &[String]) -> Result<Vec<String>> {
        ensure!(time >= self.net.clock, "time goes forward");
        self.begun = true;
        let mut serving = Serving::default();
        serving.look(&self.net);
        serving.changes.clear();
        self.net.pass(time, |net| serving.look(net));
        let shown = self.act(command)?;
        self.net.pass(time, |net| serving.look(net));
        let mut happened = self.happened(serving.changes);
        happened.extend(shown);
        if happened.is_empty() {
            happened.push("nothing".to_owned());
        }
        Ok(happened)
    }

    fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Stage {
    /// `eth0=198.18.0.2,eth1=198.18.1.2`, or the address on eth0.
    fn add(&mut self, name: &str, addresses: &str) -> Result<()> {
        let address = |word: &str| -> Result<(Arc<str>, IpAddr)> {
            let (interface, address) = word.split_once('=').unwrap_or(("eth0", word));
            Ok((interface.into(), address.parse()?))
        };
        let addresses = addresses.split(',').map(address).collect::<Result<_>>()?;
        self.net.add(name, addresses);
        Ok(())
    }

    fn has(&mut self, node: &str, instance: &str, words: &str) -> Result<()> {
        let node = self.node(node)?;
        let settings = self.with(node, words::settings(instance, words)?);
        self.net.want(node, settings);
        Ok(())
    }

    /// All that the node has, and this instead of what it had by that name.
    fn with(&self, node: usize, settings: Settings) -> Vec<Settings> {
        let others = self.net.nodes[node].settings.iter();
        let others = others.filter(|other| other.name != settings.name).cloned();
        others.chain([settings.clone()]).collect()
    }

    fn node(&self, name: &str) -> Result<usize> {
        let found = self.net.nodes.iter().position(|node| node.name == name);
        found.with_context(|| format!("there is no node {name}"))
    }

    /// What is to be shown besides what happens.
    fn act(&mut self, command: &str) -> Result<Vec<String>> {
        let words: Vec<&str> = command.splitn(4, ' ').collect();
        match words[..] {
            ["wait"] => {}
            ["advert", "from", source] => self.net.forge(&words::forged(source)?),
            ["advert", "from", source, rest] => self.net.forge(&words::forged(&format!("{source} {rest}"))?),
            ["cut", from, to] => drop(self.net.cut.insert((self.node(from)?, self.node(to)?))),
            ["part", a, b] => {
                let (a, b) = (self.node(a)?, self.node(b)?);
                self.net.cut.extend([(a, b), (b, a)]);
            }
            ["join", a, b] => {
                let (a, b) = (self.node(a)?, self.node(b)?);
                self.net.cut.retain(|wire| *wire != (a, b) && *wire != (b, a));
            }
            [node, ref rest @ ..] => return self.act_on(self.node(node)?, rest),
            [] => bail!("a command is missing"),
        }
        Ok(Vec::new())
    }

    fn act_on(&mut self, node: usize, words: &[&str]) -> Result<Vec<String>> {
        let now = self.net.now();
        match *words {
            ["starts"] => self.net.start(node),
            ["stops"] => self.net.stop(node),
            ["crashes"] => self.net.crash(node),
            ["is", "killed"] => self.net.kill(node),
            ["freezes"] => self.net.nodes[node].frozen = true,
            ["thaws"] => self.net.thaw(node),
            ["is", "mute"] => self.net.nodes[node].mute = true,
            ["speaks"] => self.net.nodes[node].mute = false,
            ["cannot", "own", why] => self.net.nodes[node].refuses = Some(why.to_owned()),
            ["can", "own"] => self.net.nodes[node].refuses = None,
            ["has", instance, settings] => {
                let settings = self.with(node, words::settings(instance, settings)?);
                self.net.want(node, settings);
            }
            ["renames", instance, name] => {
                let mut settings = self.net.nodes[node].settings.clone();
                let mut named = settings.iter_mut().filter(|settings| *settings.name == *instance);
                named.next().context("there is no such instance")?.name = name.into();
                self.net.want(node, settings);
            }
            ["drops", instance] => {
                let mut settings = self.net.nodes[node].settings.clone();
                settings.retain(|settings| *settings.name != *instance);
                self.net.want(node, settings);
            }
            ["link", interface, state] => {
                let interface = interface.into();
                let state = match state {
                    "up" => self.net.link_up(node, &interface),
                    "down" => Link::Down,
                    "missing" => Link::Missing,
                    "bare" => Link::Up { ipv4: None, ipv6: None },
                    _ => bail!("up, down, missing or bare"),
                };
                self.net.set_link(node, &interface, state);
            }
            ["weighs", instance, tracked] => {
                let tracked = tracked_of(tracked)?;
                self.net.tell(node, |vrrp| vrrp.weigh(instance, tracked, now));
            }
            ["loses", instance, address] => self.net.take_off(node, instance, address.parse()?),
            ["failover", instance] => return Ok(denied(self.net.tell(node, |vrrp| vrrp.failover(instance, now)))),
            ["failback", instance] => return Ok(denied(self.net.tell(node, |vrrp| vrrp.failback(instance, now)))),
            ["shows"] => return self.shown(node),
            _ => bail!("unknown command"),
        }
        Ok(Vec::new())
    }

    fn shown(&self, node: usize) -> Result<Vec<String>> {
        let node = &self.net.nodes[node];
        let vrrp = node.vrrp.as_ref().context("it does not run")?;
        let mut lines: Vec<String> = vrrp.instances().map(words::shown).collect::<Result<_>>()?;
        lines.extend(
            vrrp.refused()
                .iter()
                .map(|(refusal, count)| format!("refused {count}: {refusal}")),
        );
        Ok(lines)
    }

    /// In their order, each with its time and node.
    fn happened(&mut self, changes: Vec<(Duration, usize, String)>) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut changes = changes.into_iter().peekable();
        for (number, event) in std::mem::take(&mut self.net.log).into_iter().enumerate() {
            while let Some((at, _, change)) = changes.next_if(|(_, before, _)| *before <= number) {
                lines.push(format!("{:.4}s {change}", at.as_secs_f64()));
            }
            let instance = (event.node, event.command.instance.clone());
            let last = self.priorities.get(&instance).copied();
            let told = words::told(&event.command.what, last);
            match event.command.what {
                What::Send { priority, .. } => drop(self.priorities.insert(instance.clone(), priority)),
                What::Disown(_) => drop(self.priorities.remove(&instance)),
                _ => {}
            }
            let (at, node) = (event.at.as_secs_f64(), &self.net.nodes[event.node].name);
            lines.extend(told.map(|told| format!("{at:.4}s {node} {}: {told}", instance.1)));
        }
        lines.extend(changes.map(|(at, _, change)| format!("{:.4}s {change}", at.as_secs_f64())));
        lines
    }
}

/// `-60 WHY`, `unfit WHY`, `fault WHY` or `well`.
fn tracked_of(words: &str) -> Result<Tracked> {
    let (first, why) = words.split_once(' ').unwrap_or((words, ""));
    Ok(match first {
        "well" => Tracked::default(),
        "fault" => Tracked {
            fault: Some(why.to_owned()),
            why: why.to_owned(),
            ..Tracked::default()
        },
        "unfit" => Tracked {
            is_unfit: true,
            why: why.to_owned(),
            ..Tracked::default()
        },
        sum => Tracked {
            sum: sum.parse()?,
            why: why.to_owned(),
            ..Tracked::default()
        },
    })
}

fn denied<E: ToString>(result: Option<Result<(), E>>) -> Vec<String> {
    match result {
        Some(Err(denied)) => vec![format!("denied: {}", denied.to_string())],
        Some(Ok(())) => Vec::new(),
        None => vec!["denied: it does not run".to_owned()],
    }
}

/// Who serves what, as it changes.
#[derive(Default)]
struct Serving {
    now: BTreeMap<IpAddr, Vec<usize>>,
    /// When, before which event of the log, and what.
    changes: Vec<(Duration, usize, String)>,
}

impl Serving {
    fn look(&mut self, net: &Net) {
        for address in net.addresses() {
            let servers = net.servers(address);
            if self.now.insert(address, servers.clone()).unwrap_or_default() != servers {
                let names: Vec<&str> = servers.iter().map(|server| net.nodes[*server].name.as_str()).collect();
                let by = if names.is_empty() {
                    "nobody".to_owned()
                } else {
                    names.join(" AND ")
                };
                self.changes
                    .push((net.clock, net.log.len(), format!("{address} is served by {by}")));
            }
        }
    }
}
