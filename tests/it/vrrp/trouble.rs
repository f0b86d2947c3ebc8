//! Networks of two or three nodes, and what may happen to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_tests::packets::Random;
use lb_tests::vrrp::net::{Net, Quality};
use lb_tests::vrrp::words;
use lb_userspace::core::vrrp::Role;
use lb_userspace::core::vrrp::command::What;
use lb_userspace::core::vrrp::machine::Link;
use lb_userspace::core::vrrp::sealed::Secrets;
use lb_userspace::core::vrrp::settings::Settings;
use lb_userspace::core::vrrp::track::Tracked;

pub const INTERVALS: [u64; 4] = [10, 20, 30, 40];

pub const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

pub fn address() -> IpAddr {
    [198, 18, 0, 100].into()
}

/// What all nodes of a network have alike.
pub struct Terms {
    pub interval: Duration,
    pub secrets: Option<Secrets>,
}

impl Terms {
    pub fn open(random: &mut Random) -> Self {
        Self {
            interval: Duration::from_millis(*random.of(&INTERVALS)),
            secrets: None,
        }
    }

    pub fn with_key(random: &mut Random) -> Self {
        Self {
            secrets: Some(Secrets::read(b"correct horse battery").expect("a key")),
            ..Self::open(random)
        }
    }
}

/// Two or three nodes.
pub fn net(random: &mut Random, terms: &Terms, quality: Quality) -> Net {
    let mut net = Net::new(quality, random.draw());
    for node in 0..2 + random.below(2) as usize {
        let own = [198, 18, 0, node as u8 + 2].into();
        net.add(["a", "b", "c"][node], BTreeMap::from([("eth0".into(), own)]));
        net.nodes[node].settings = vec![settings(random, terms)];
        net.start(node);
    }
    net
}

pub fn settings(random: &mut Random, terms: &Terms) -> Settings {
    let mut settings = words::settings("main", "").expect("good words");
    settings.interval = terms.interval;
    settings.secrets.clone_from(&terms.secrets);
    settings.priority = *random.of(&[1, 99, 100, 100, 101, 150, 200, 254]);
    settings.preempt = !random.one_in(4);
    settings.preempt_delay = if random.one_in(4) {
        terms.interval * 10
    } else {
        Duration::ZERO
    };
    settings
}

/// What may happen to a node that neither network nor operator is to blame for, and what operators do.
pub fn trouble(net: &mut Net, random: &mut Random, terms: &Terms) -> String {
    let node = random.below(net.nodes.len() as u64) as usize;
    let now = net.now();
    let runs = net.nodes[node].vrrp.is_some();
    let what = match random.below(13) {
        _ if net.nodes[node].frozen => {
            net.thaw(node);
            "thaws"
        }
        _ if !runs => {
            net.start(node);
            "starts"
        }
        0 | 1 => {
            net.nodes[node].frozen = true;
            "freezes"
        }
        2 => {
            net.kill(node);
            "is killed"
        }
        3 => {
            net.crash(node);
            "crashes"
        }
        4 => {
            net.stop(node);
            "stops"
        }
        5 => {
            net.tell(node, |vrrp| vrrp.failover("main", now));
            "fails over"
        }
        6 => {
            net.tell(node, |vrrp| vrrp.failback("main", now));
            "fails back"
        }
        7 | 8 => {
            let sum = -(random.below(150) as i32);
            let tracked = Tracked {
                sum,
                is_unfit: random.one_in(3),
                ..Tracked::default()
            };
            net.tell(node, |vrrp| vrrp.weigh("main", tracked, now));
            "is weighed"
        }
        9 => {
            net.set_link(node, &"eth0".into(), Link::Down);
            "is unplugged"
        }
        10 => {
            let up = net.link_up(node, &"eth0".into());
            net.set_link(node, &"eth0".into(), up);
            "is plugged in"
        }
        11 => {
            net.want(node, vec![settings(random, terms)]);
            "is configured anew"
        }
        // Who has a key hears those alone whom it could speak to.
        _ if terms.secrets.is_some() => "goes on",
        _ => {
            let mute = !net.nodes[node].mute;
            net.nodes[node].mute = mute;
            "changes its voice"
        }
    };
    format!("{:?}: {} {what}", net.clock, net.nodes[node].name)
}

pub fn all_well(net: &mut Net) {
    net.cut.clear();
    for node in 0..net.nodes.len() {
        net.nodes[node].mute = false;
        if net.nodes[node].vrrp.is_none() {
            net.start(node);
        }
        if net.nodes[node].frozen {
            net.thaw(node);
        }
        let up = net.link_up(node, &"eth0".into());
        net.set_link(node, &"eth0".into(), up);
        let now = net.now();
        net.tell(node, |vrrp| vrrp.weigh("main", Tracked::default(), now));
    }
}

pub fn told(net: &Net) -> String {
    let moved = net.log.iter().filter_map(|event| match &event.command.what {
        What::Moved(transition) => Some(format!("{:?}: {} {transition}", event.at, net.nodes[event.node].name)),
        _ => None,
    });
    let moved: Vec<String> = moved.collect();
    let nodes = net
        .nodes
        .iter()
        .flat_map(|node| node.vrrp.iter().map(move |vrrp| (node, vrrp)));
    let shown = nodes.flat_map(|(node, vrrp)| vrrp.instances().map(move |machine| (node, words::shown(machine))));
    let shown = shown.map(|(node, shown)| format!("{} {}", node.name, shown.expect("good counters")));
    let last = moved[moved.len().saturating_sub(12)..].iter().cloned();
    last.chain(shown).collect::<Vec<_>>().join("\n")
}

pub fn masters(net: &Net) -> Vec<usize> {
    let is_master = |node: &usize| {
        let vrrp = net.nodes[*node].vrrp.iter();
        vrrp.flat_map(|vrrp| vrrp.instances())
            .any(|machine| machine.role() == Role::Master)
    };
    (0..net.nodes.len()).filter(is_master).collect()
}

/// A network that loses nothing and delivers within a twentieth of an interval, and within 0.9 ms; nodes that notice what
/// is due within a fifth of an interval.
pub fn good(random: &mut Random, interval: Duration) -> Quality {
    Quality {
        delay: (micros(20), (interval / 20).min(micros(900))),
        loss: 0,
        lag: if random.one_in(2) { interval / 5 } else { micros(50) },
    }
}
