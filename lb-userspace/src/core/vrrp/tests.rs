//! What stories do not show: when it wants to be called, and how far its memory goes.

use std::time::{Duration, UNIX_EPOCH};

use super::document::{VrrpDocument, render};
use super::packet::{Checksum, Format, Version};
use super::sealed::Secrets;
use super::settings::Address;
use super::*;

struct Clock(Instant);

impl Clock {
    fn at(&self, ms: u64) -> Moment {
        Moment {
            monotonic: self.0 + Duration::from_millis(ms),
            wall: UNIX_EPOCH,
        }
    }
}

pub fn settings(name: &str, id: u8, group: Option<&str>) -> Settings {
    Settings {
        name: name.into(),
        interface: "eth0".into(),
        id,
        format: Format {
            version: Version::V3,
            checksum: Checksum::PseudoHeader,
            password: None,
        },
        secrets: None,
        priority: 100,
        interval: Duration::from_millis(30),
        preempt: true,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        addresses: vec![Address {
            address: [198, 18, 0, id].into(),
            length: 32,
        }],
        peers: Vec::new(),
        group: group.map(str::to_owned),
        announce_every: None,
        virtual_mac: false,
    }
}

const UP: Link = Link::Up {
    ipv4: Some(std::net::Ipv4Addr::new(198, 18, 0, 200)),
    ipv6: None,
};

/// Turned whenever it wants to be, until then; how often that was.
fn pass(vrrp: &mut Vrrp, clock: &Clock, until: u64) -> usize {
    let mut turns = 0;
    while let Some(deadline) = vrrp
        .deadline()
        .filter(|deadline| *deadline <= clock.at(until).monotonic)
    {
        let now = Moment {
            monotonic: deadline,
            wall: UNIX_EPOCH,
        };
        vrrp.turn(now);
        turns += 1;
        assert!(turns < 1000, "it wants to be turned again and again");
    }
    turns
}

#[test]
fn who_waits_for_another_of_its_group_is_not_due_all_the_time() {
    let clock = Clock(Instant::now());
    let mut vrrp = Vrrp::new([1; 32]);
    let mut slow = settings("slow", 2, Some("g"));
    slow.startup_delay = Duration::from_secs(10);
    vrrp.reconfigure(vec![settings("quick", 1, Some("g")), slow], clock.at(0));
    assert_eq!(vrrp.deadline(), Some(clock.at(0).monotonic), "after a change");
    vrrp.link(&"eth0".into(), UP, clock.at(0));
    let turns = pass(&mut vrrp, &clock, 9_999);
    assert!(turns < 5, "{turns}");
    assert!(vrrp.instances().all(|machine| machine.role() == Role::Backup));
    pass(&mut vrrp, &clock, 10_100);
    assert!(vrrp.instances().all(|machine| machine.role() == Role::Master));
}

#[test]
fn the_last_hundred_transitions_are_remembered() {
    let clock = Clock(Instant::now());
    let mut vrrp = Vrrp::new([1; 32]);
    vrrp.reconfigure(vec![settings("main", 1, None)], clock.at(0));
    for round in 0..100 {
        let link = if round % 2 == 0 { UP } else { Link::Down };
        vrrp.link(&"eth0".into(), link, clock.at(round));
        vrrp.turn(clock.at(round));
    }
    vrrp.link(&"eth0".into(), UP, clock.at(100));
    vrrp.turn(clock.at(100));
    assert_eq!(vrrp.transitions().count(), REMEMBERED);
    let newest = vrrp.transitions().next().unwrap();
    assert_eq!(newest.to_string(), "main: fault -> backup: nothing is at fault");
    assert_eq!(newest.at, clock.at(100));
}

#[test]
fn an_operator_is_told_why_not() {
    let clock = Clock(Instant::now());
    let mut vrrp = Vrrp::new([1; 32]);
    vrrp.reconfigure(vec![settings("main", 1, None)], clock.at(0));
    vrrp.turn(clock.at(0));
    let denied = |result: Result<(), Denied>| result.unwrap_err().to_string();
    assert_eq!(denied(vrrp.failover("mian", clock.at(0))), "there is no [vrrp.mian]");
    assert_eq!(denied(vrrp.failover("main", clock.at(0))), "main is not master here");
    assert_eq!(
        denied(vrrp.failback("main", clock.at(0))),
        "main stays as it is: eth0 is missing"
    );
}

#[test]
fn an_operator_sees_whether_adverts_are_authenticated() {
    let clock = Clock(Instant::now());
    let mut vrrp = Vrrp::new([1; 32]);
    let sealed = Settings {
        secrets: Some(Secrets::read(b"0123456789abcdef").unwrap()),
        ..settings("sealed", 2, None)
    };
    vrrp.reconfigure(vec![settings("open", 1, None), sealed], clock.at(0));
    let text = render(&VrrpDocument::of(&vrrp, clock.at(0).monotonic));
    let keys: Vec<_> = text.lines().filter(|line| line.starts_with("  key ")).collect();
    assert_eq!(
        keys,
        [
            "  key       none: whoever is on the link can say adverts",
            "  key       nobody else has shown to have it; nobody without is heard"
        ]
    );
}
