//! Seals byte for byte, and every way to get one wrong.

use super::*;
use crate::core::dns::Family;
use crate::core::vrrp::packet::{Checksum, Password, group, write};

const KEY: &[u8] = b"0123456789abcdef";
const TAG_OF_KEY: [u8; TAG] = [
    0x8e, 0xf8, 0x05, 0x22, 0x8a, 0x2d, 0x5e, 0x95, 0x43, 0x5d, 0xb5, 0xcd, 0xf2, 0x60, 0xca, 0xe3,
];
const STAMP: Stamp = Stamp {
    session: 0x0102_0304_0506_0708,
    number: 9,
};

fn format(checksum: Checksum) -> Format {
    Format {
        version: Version::V3,
        checksum,
        password: None::<Password>,
    }
}

fn secrets(text: &str) -> Secrets {
    Secrets::read(text.as_bytes()).unwrap()
}

fn envelope(family: Family) -> Envelope {
    let source = match family {
        Family::Ipv4 => IpAddr::from([198, 18, 0, 2]),
        Family::Ipv6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 2]),
    };
    Envelope {
        source,
        destination: group(family),
        ttl: 255,
    }
}

fn advert(family: Family) -> Advert {
    let address = match family {
        Family::Ipv4 => IpAddr::from([198, 18, 0, 100]),
        Family::Ipv6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x100]),
    };
    Advert {
        id: 51,
        priority: 150,
        interval: std::time::Duration::from_millis(30),
        addresses: vec![address],
    }
}

/// Of an advert.
fn sealed(family: Family, secrets: &Secrets) -> Vec<u8> {
    let (envelope, format) = (envelope(family), format(Checksum::PseudoHeader));
    let Envelope {
        source, destination, ..
    } = envelope;
    let bytes = write(&advert(family), &format, source, destination);
    seal(bytes, STAMP, secrets, &format, source, destination)
}

/// The tag was computed by another program.
#[test]
fn a_seal_is_what_the_document_says() {
    let bytes = sealed(Family::Ipv4, &secrets("0123456789abcdef"));
    let (message, seal) = bytes.split_at(12);
    assert_eq!(message[..6], [0x31, 51, 150, 1, 0, 3]);
    assert_eq!(
        seal[..20],
        *b"nar\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09"
    );
    assert_eq!(seal[20..], TAG_OF_KEY);
}

#[test]
fn what_is_sealed_opens_with_the_same_key_alone() {
    for family in [Family::Ipv4, Family::Ipv6] {
        let bytes = sealed(family, &secrets("0123456789abcdef"));
        let open = |keys: &str| open(&bytes, &envelope(family), &format(Checksum::Message), &secrets(keys));
        let right = Ok((Message::Advert(advert(family)), STAMP));
        assert_eq!(open("0123456789abcdef"), right);
        assert_eq!(open("fedcba9876543210\n0123456789abcdef\n"), right);
        assert_eq!(open("0123456789abcdee"), Err(Refusal::AnotherKey));
    }
}

#[test]
fn greetings_come_back_as_they_were() {
    let (envelope, format) = (envelope(Family::Ipv4), format(Checksum::Message));
    let keys = secrets("0123456789abcdef");
    for (question, answer) in [(0, 0), (7, 0), (0, 8), (u128::MAX, 1)] {
        let greeting = Greeting {
            question: NonZeroU128::new(question),
            answer: NonZeroU128::new(answer),
        };
        let bytes = write_greeting(51, &greeting);
        let bytes = seal(bytes, STAMP, &keys, &format, envelope.source, envelope.destination);
        let opened = open(&bytes, &envelope, &format, &keys);
        assert_eq!(opened, Ok((Message::Greeting(greeting), STAMP)));
    }
}

/// Each bit of it, and where it comes from and goes to; with a sum that is right.
#[test]
fn nothing_of_it_can_be_changed() {
    let keys = secrets("0123456789abcdef");
    let (envelope, format) = (envelope(Family::Ipv4), format(Checksum::PseudoHeader));
    let bytes = sealed(Family::Ipv4, &keys);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        packet::put_sum(&mut changed, &format, envelope.source, envelope.destination);
        if changed != bytes {
            assert!(open(&changed, &envelope, &format, &keys).is_err(), "bit {bit}");
        }
    }
    let other = IpAddr::from([198, 18, 0, 3]);
    let elsewhere = [
        Envelope {
            source: other,
            ..envelope
        },
        Envelope {
            destination: other,
            ..envelope
        },
    ];
    for envelope in elsewhere {
        let mut moved = bytes.clone();
        packet::put_sum(&mut moved, &format, envelope.source, envelope.destination);
        assert_eq!(open(&moved, &envelope, &format, &keys), Err(Refusal::AnotherKey));
    }
}

#[test]
fn every_way_to_get_one_wrong_has_its_cause() {
    let keys = secrets("0123456789abcdef");
    let (envelope, format) = (envelope(Family::Ipv4), format(Checksum::PseudoHeader));
    let bytes = sealed(Family::Ipv4, &keys);
    let Envelope {
        source, destination, ..
    } = envelope;
    let unsealed = write(&advert(Family::Ipv4), &format, source, destination);
    let signed = |message: &[u8]| seal(message.to_vec(), STAMP, &keys, &format, source, destination);
    let mut damaged = bytes.clone();
    damaged[8] ^= 1;
    let cases = [
        (vec![0x31], Refusal::Truncated),
        (bytes[..20].to_vec(), Refusal::Unsealed),
        (bytes[..bytes.len() - 1].to_vec(), Refusal::Unsealed),
        (unsealed.clone(), Refusal::Unsealed),
        (damaged, Refusal::Checksum),
        (signed(&unsealed[..8]), Refusal::CountTooHigh),
        (signed(&[&unsealed[..], &[0; 4]].concat()), Refusal::TrailingBytes),
        (
            signed(&write_greeting(51, &Greeting::default())[..39]),
            Refusal::Truncated,
        ),
        (
            signed(&[0x21, 51, 150, 1, 0, 1, 0, 0, 198, 18, 0, 100]),
            Refusal::Version,
        ),
    ];
    for (bytes, refusal) in cases {
        assert_eq!(open(&bytes, &envelope, &format, &keys), Err(refusal), "{bytes:02x?}");
    }
}

#[test]
fn a_file_has_one_key_or_two() {
    let read = |text: &[u8]| Secrets::read(text);
    let one = Secrets {
        first: KEY.to_vec(),
        second: None,
    };
    assert_eq!(read(b"0123456789abcdef"), Ok(one.clone()));
    assert_eq!(read(b"\n  0123456789abcdef \r\n\n"), Ok(one.clone()));
    let two = Secrets {
        second: Some(b"fedcba9876543210".to_vec()),
        ..one
    };
    assert_eq!(read(b"0123456789abcdef\nfedcba9876543210\n"), Ok(two));
    assert_eq!(read(b" \n"), Err(BadSecrets::None));
    assert_eq!(read(b"0123456789abcde\n"), Err(BadSecrets::TooShort));
    assert_eq!(read(b"0123456789abcdef\nshort\n"), Err(BadSecrets::TooShort));
    assert_eq!(read(&[KEY, KEY, KEY].join(&b'\n')), Err(BadSecrets::TooMany));
    assert_eq!(format!("{:?}", read(KEY)), "Ok(Secrets)");
}
