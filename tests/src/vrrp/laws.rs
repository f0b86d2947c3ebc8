//! What holds for every sequence of bytes that arrives as VRRP: the oracle of the fuzzer, and of its corpus.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use lb_userspace::core::vrrp::command::{Command, What};
use lb_userspace::core::vrrp::machine::Link;
use lb_userspace::core::vrrp::packet::{self, Checksum, Envelope, Format, Password, Version};
use lb_userspace::core::vrrp::sealed::{self, Message, Secrets};
use lb_userspace::core::vrrp::{Heard, Role, Vrrp};
use lb_userspace::core::world::Moment;

use super::words;
use crate::packets::Random;

const KEY: &str = "0123456789abcdef";

/// The first byte says which format, family and way; the rest is a datagram or a payload.
pub fn hold(input: &[u8]) {
    let Some((&way, bytes)) = input.split_first() else {
        return;
    };
    if let Ok((envelope, payload)) = packet::open_ipv4(bytes) {
        assert!(payload.len() + 20 <= bytes.len() && envelope.source.is_ipv4());
    }
    let format = Format {
        version: if way & 1 == 0 { Version::V3 } else { Version::V2 },
        checksum: if way & 2 == 0 {
            Checksum::PseudoHeader
        } else {
            Checksum::Message
        },
        password: if way & 4 == 0 { None } else { Password::new(b"secret") },
    };
    let ipv6 = way & 8 != 0 && format.version == Version::V3;
    let envelope = envelope(ipv6, 3);
    reads_as_it_was_written(bytes, &envelope, &format);
    if !ipv6 && format.version == Version::V3 {
        strangers_change_nothing(bytes);
        let summed = summed(bytes);
        opens_as_it_was_sealed(&summed, &envelope, &format);
        who_does_not_answer_changes_nothing(&summed);
    }
}

/// An advert of the peer, at times damaged, with a right sum or a wrong one.
pub fn input(random: &mut Random) -> Vec<u8> {
    let sealed = format!(" key={KEY}");
    let versions = [
        "",
        " version=2 interval=1s",
        " version=2 interval=1s password=secret",
        &sealed,
    ];
    let version = *random.of(&versions);
    let priority = *random.of(&[0, 1, 100, 150, 255]);
    let cut = random.below(3);
    let words = format!("198.18.0.3 to=198.18.0.2 priority={priority} cut={cut}{version}");
    let mut bytes = words::forged(&words).expect("good words").payload;
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] = random.draw() as u8;
    }
    let way = u8::from(version.contains("version=2")) | if version.ends_with("secret") { 4 } else { 0 };
    [vec![way], bytes].concat()
}

/// Addresses of the usual instance's node are 198.18.0.2 and fe80::2, its only peer ends in 3.
fn envelope(ipv6: bool, host: u8) -> Envelope {
    let (source, own): (IpAddr, IpAddr) = if ipv6 {
        (
            [0xfe80, 0, 0, 0, 0, 0, 0, host.into()].into(),
            [0xfe80, 0, 0, 0, 0, 0, 0, 2].into(),
        )
    } else {
        ([198, 18, 0, host].into(), [198, 18, 0, 2].into())
    };
    Envelope {
        source,
        destination: own,
        ttl: 255,
    }
}

/// What is taken for an advert is one, and says what was understood.
fn reads_as_it_was_written(bytes: &[u8], envelope: &Envelope, format: &Format) {
    let Ok(advert) = packet::parse(bytes, envelope, format) else {
        return;
    };
    assert!(!advert.addresses.is_empty() && !advert.interval.is_zero());
    assert!(advert.interval <= format.version.longest_interval());
    let written = packet::write(&advert, format, envelope.source, envelope.destination);
    assert_eq!(written.len(), bytes.len(), "as long as it was");
    assert_eq!(packet::parse(&written, envelope, format).as_ref(), Ok(&advert));
}

/// Without a right sum, nothing of a seal would be looked at.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(sum) = bytes.get_mut(6..8) {
        sum.copy_from_slice(&[0, 0]);
        let words = bytes.chunks(2);
        let words = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| low.into()));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        bytes[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    bytes
}

/// What is taken for sealed is byte for byte what somebody with the key wrote.
fn opens_as_it_was_sealed(bytes: &[u8], envelope: &Envelope, format: &Format) {
    let secrets = Secrets::read(KEY.as_bytes()).expect("a key");
    let Ok((message, stamp)) = sealed::open(bytes, envelope, format, &secrets) else {
        return;
    };
    let (from, to) = (envelope.source, envelope.destination);
    let written = match &message {
        Message::Advert(advert) => packet::write(advert, format, from, to),
        Message::Greeting(greeting) => sealed::write_greeting(bytes[1], greeting),
    };
    let sealed = sealed::seal(written, stamp, &secrets, format, from, to);
    assert_eq!(summed(&sealed), bytes);
}

/// To a master with a key, who has asked nobody anything: at most it asks.
fn who_does_not_answer_changes_nothing(bytes: &[u8]) {
    let Master {
        mut vrrp,
        interface,
        at,
    } = Master::with(&format!("key={KEY}"));
    for host in [3, 9] {
        let heard = Heard {
            interface: interface.clone(),
            envelope: envelope(false, host),
            payload: bytes,
        };
        vrrp.hear(&heard, at);
        let answers = vrrp.turn(at);
        let is_talk = |command: &Command| matches!(command.what, What::Greet { .. } | What::Complain(_));
        assert!(answers.iter().all(is_talk) && answers.len() <= 1, "{answers:?}");
    }
    let mut instances = vrrp.instances();
    assert!(instances.all(|machine| machine.role() == Role::Master && machine.counters().heard == 0));
}

/// One that nobody has contradicted; no advert of it is due.
struct Master {
    vrrp: Vrrp,
    interface: Arc<str>,
    at: Moment,
}

impl Master {
    fn with(words: &str) -> Self {
        let base = Instant::now();
        let at = |ms: u64| Moment {
            monotonic: base + Duration::from_millis(ms),
            wall: UNIX_EPOCH,
        };
        let mut vrrp = Vrrp::new([1; 32]);
        let settings = words::settings("main", words).expect("good words");
        let interface = settings.interface.clone();
        vrrp.reconfigure(vec![settings], at(0));
        let link = Link::Up {
            ipv4: Some([198, 18, 0, 2].into()),
            ipv6: None,
        };
        vrrp.link(&interface, link, at(0));
        for ms in 0..150 {
            vrrp.turn(at(ms));
        }
        let at = at(150);
        assert_eq!(vrrp.turn(at).len(), 0, "no advert is due");
        Self { vrrp, interface, at }
    }
}

/// To a master, to whom only its peer may speak. What an operator is told does not count.
fn strangers_change_nothing(bytes: &[u8]) {
    let Master {
        mut vrrp,
        interface,
        at,
    } = Master::with("priority=100 peers=198.18.0.3");
    let hear = |vrrp: &mut Vrrp, host, ttl| {
        let heard = Heard {
            interface: interface.clone(),
            envelope: Envelope {
                ttl,
                ..envelope(false, host)
            },
            payload: bytes,
        };
        vrrp.hear(&heard, at);
        let mut done = vrrp.turn(at);
        done.retain(|command| !matches!(command.what, What::Complain(_)));
        done
    };
    assert_eq!(hear(&mut vrrp, 9, 255), [], "of a stranger");
    assert_eq!(hear(&mut vrrp, 3, 254), [], "through a router");
    // The peer may say what it likes, and is answered once at most.
    let answer = hear(&mut vrrp, 3, 255);
    let stays = vrrp.instances().all(|machine| machine.role() == Role::Master);
    assert!(if stays { answer.len() <= 1 } else { answer.len() == 4 }, "{answer:?}");
}
