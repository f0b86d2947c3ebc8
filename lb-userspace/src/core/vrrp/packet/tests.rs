//! Adverts byte for byte, as other implementations send them, and every way to get one wrong.

use super::*;

const SOURCE: [u8; 4] = [198, 18, 0, 2];
const V2: &str = "21 33 64 01 00 01 b4 53 c6 12 00 64 00 00 00 00 00 00 00 00";
const V2_PASSWORD: &str = "21 33 64 01 01 01 77 07 c6 12 00 64 73 65 63 72 65 74 00 00";
const V3: &str = "31 33 96 02 00 03 05 31 c6 12 00 64 c6 12 00 65";
const V3_MESSAGE: &str = "31 33 96 02 00 03 ab d8 c6 12 00 64 c6 12 00 65";
const V3_UNICAST: &str = "31 33 96 02 00 03 1f 2e c6 12 00 64 c6 12 00 65";
const V3_IPV6: &str = "31 33 96 02 00 64 0b fc fe 80 00 00 00 00 00 00 00 00 00 00 00 00 01 00 \
                       20 01 0d b8 00 00 00 00 00 00 00 00 00 00 01 00";

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn format(version: Version) -> Format {
    Format {
        version,
        checksum: Checksum::PseudoHeader,
        password: None,
    }
}

fn with_password() -> Format {
    Format {
        password: Password::new(b"secret"),
        ..format(Version::V2)
    }
}

fn message_alone() -> Format {
    Format {
        checksum: Checksum::Message,
        ..format(Version::V3)
    }
}

fn envelope(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Envelope {
    Envelope {
        source: source.into(),
        destination: destination.into(),
        ttl: 255,
    }
}

fn multicast() -> Envelope {
    envelope(SOURCE, group(Family::Ipv4))
}

fn advert(priority: u8, interval: Duration, addresses: &[&str]) -> Advert {
    Advert {
        id: 51,
        priority,
        interval,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

/// Sums were computed by another program.
#[test]
fn adverts_are_what_the_documents_say() {
    let link_local = |host: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, host]);
    let second = Duration::from_secs(1);
    let two = advert(150, Duration::from_millis(30), &["198.18.0.100", "198.18.0.101"]);
    let one = advert(100, second, &["198.18.0.100"]);
    let six = advert(150, second, &["fe80::100", "2001:db8::100"]);
    let cases = [
        (V2, &one, format(Version::V2), multicast()),
        (V2_PASSWORD, &one, with_password(), multicast()),
        (V3, &two, format(Version::V3), multicast()),
        (V3_MESSAGE, &two, message_alone(), multicast()),
        (V3_UNICAST, &two, format(Version::V3), envelope(SOURCE, [198, 18, 0, 3])),
        (
            V3_IPV6,
            &six,
            format(Version::V3),
            envelope(link_local(2), group(Family::Ipv6)),
        ),
    ];
    for (expected, advert, format, envelope) in cases {
        let written = write(advert, &format, envelope.source, envelope.destination);
        assert_eq!(written, bytes(expected), "{expected}");
        assert_eq!(parse(&written, &envelope, &format).as_ref(), Ok(advert), "{expected}");
    }
}

#[test]
fn version_3_over_ipv4_is_understood_with_either_sum_and_sent_with_its_own() {
    for format in [format(Version::V3), message_alone()] {
        for sum in [V3, V3_MESSAGE] {
            assert!(parse(&bytes(sum), &multicast(), &format).is_ok(), "{sum}");
        }
        // For another destination: what some send to peers.
        let old = parse(&bytes(V3), &envelope(SOURCE, [198, 18, 0, 3]), &format);
        assert_eq!(old, Err(Refusal::Checksum));
    }
    let without = envelope([0xfe80, 0, 0, 0, 0, 0, 0, 9], group(Family::Ipv6));
    assert_eq!(
        parse(&bytes(V3_IPV6), &without, &format(Version::V3)),
        Err(Refusal::Checksum)
    );
}

#[test]
fn the_reserved_bits_beside_the_interval_mean_nothing() {
    let mut advert = bytes(V3_MESSAGE);
    advert[4] |= 0xf0;
    advert[6..8].copy_from_slice(&[0, 0]);
    let right = !sum(&[&advert]);
    advert[6..8].copy_from_slice(&right.to_be_bytes());
    let read = parse(&advert, &multicast(), &format(Version::V3)).unwrap();
    assert_eq!(read.interval, Duration::from_millis(30));
}

#[test]
fn every_way_to_get_one_wrong_has_its_cause() {
    let changed = |hex: &str, at: usize, to: u8| {
        let mut bytes = bytes(hex);
        bytes[at] = to;
        bytes
    };
    let summed = |hex: &str, at: usize, to: u8| {
        let mut bytes = changed(hex, at, to);
        bytes[6..8].copy_from_slice(&[0, 0]);
        let right = !sum(&[&bytes]);
        bytes[6..8].copy_from_slice(&right.to_be_bytes());
        bytes
    };
    let (v2, v3, password) = (format(Version::V2), format(Version::V3), with_password());
    let shorter = |hex: &str| bytes(hex)[..bytes(hex).len() - 1].to_vec();
    let longer = |hex: &str| [bytes(hex), vec![0]].concat();
    let cases = [
        (vec![], &v3, Refusal::Truncated),
        (bytes(V3)[..7].to_vec(), &v3, Refusal::Truncated),
        (bytes(V3)[..1].to_vec(), &v3, Refusal::Truncated),
        (changed(V3, 0, 0x41), &v3, Refusal::Version),
        (changed(V3, 0, 0x11), &v3, Refusal::Version),
        (bytes(V3), &v2, Refusal::Version),
        (bytes(V2), &v3, Refusal::Version),
        (changed(V3, 0, 0x32), &v3, Refusal::Type),
        (summed(V3, 3, 0), &v3, Refusal::NoAddress),
        (summed(V3, 3, 3), &v3, Refusal::CountTooHigh),
        (summed(V3, 3, 255), &v3, Refusal::CountTooHigh),
        (summed(V3, 3, 1), &v3, Refusal::TrailingBytes),
        (shorter(V3), &v3, Refusal::CountTooHigh),
        (longer(V3), &v3, Refusal::TrailingBytes),
        (shorter(V2), &v2, Refusal::CountTooHigh),
        (longer(V2), &v2, Refusal::TrailingBytes),
        // Without the eight bytes of its authentication.
        (bytes(V2)[..12].to_vec(), &v2, Refusal::CountTooHigh),
        (changed(V3, 7, 0), &v3, Refusal::Checksum),
        (changed(V3, 2, 255), &v3, Refusal::Checksum),
        (changed(V2, 2, 255), &v2, Refusal::Checksum),
        (summed(V3, 5, 0), &v3, Refusal::IntervalZero),
        (summed(V2, 5, 0), &v2, Refusal::IntervalZero),
        (bytes(V2), &password, Refusal::Auth),
        (bytes(V2_PASSWORD), &v2, Refusal::Auth),
        (summed(V2_PASSWORD, 12, b'S'), &password, Refusal::Auth),
        (summed(V2_PASSWORD, 19, b'!'), &password, Refusal::Auth),
        (summed(V2_PASSWORD, 4, 2), &password, Refusal::Auth),
    ];
    for (bytes, format, refusal) in cases {
        assert_eq!(parse(&bytes, &multicast(), format), Err(refusal), "{bytes:02x?}");
    }
}

#[test]
fn intervals_are_whole_seconds_or_hundredths() {
    let written = |version, interval| {
        let bytes = write(
            &advert(1, interval, &["198.18.0.1"]),
            &format(version),
            SOURCE.into(),
            group(Family::Ipv4),
        );
        [bytes[4], bytes[5]]
    };
    assert_eq!(written(Version::V3, Duration::from_millis(10)), [0, 1]);
    assert_eq!(written(Version::V3, Duration::from_secs(40)), [0x0f, 0xa0]);
    assert_eq!(written(Version::V3, Duration::from_millis(40_950)), [0x0f, 0xff]);
    assert_eq!(written(Version::V3, Duration::from_secs(100)), [0x0f, 0xff]);
    assert_eq!(written(Version::V2, Duration::from_secs(255)), [0, 255]);
}

#[test]
fn as_many_addresses_as_there_can_be() {
    let all: Vec<String> = (0..255).map(|host| format!("198.18.0.{host}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let full = advert(1, Duration::from_millis(10), &all);
    let written = write(&full, &format(Version::V3), SOURCE.into(), group(Family::Ipv4));
    assert_eq!(written.len(), 8 + 255 * 4);
    assert_eq!(parse(&written, &multicast(), &format(Version::V3)), Ok(full));
}

#[test]
fn a_password_has_one_to_eight_bytes() {
    for wrong in [&b""[..], b"123456789", b"a\0b"] {
        assert_eq!(Password::new(wrong), None);
    }
    assert_eq!(
        Password::new(b"12345678").map(|password| password.0),
        Some(*b"12345678")
    );
    assert_eq!(format!("{:?}", Password::new(b"secret")), "Some(Password)");
}

/// Its options are stepped over, whatever they are.
#[test]
fn datagrams_of_ipv4_are_opened() {
    let datagram = |length: u8, total: u16, flags: u8, protocol: u8, ttl: u8| {
        let mut header = vec![0x40 | (length / 4), 0xc0];
        header.extend(total.to_be_bytes());
        header.extend([0, 0, flags, 0, ttl, protocol, 0, 0, 198, 18, 0, 2, 224, 0, 0, 18]);
        header.resize(usize::from(length).max(20), 1);
        [header, bytes(V3)].concat()
    };
    let (envelope, payload) = (multicast(), bytes(V3));
    for length in [20, 24, 60] {
        let datagram = datagram(length, u16::from(length) + 16, 0x40, PROTOCOL, 255);
        assert_eq!(open_ipv4(&datagram), Ok((envelope, payload.as_slice())));
        let padded = [datagram, vec![0; 10]].concat();
        assert_eq!(open_ipv4(&padded), Ok((envelope, payload.as_slice())));
    }
    let wrong = [
        datagram(20, 37, 0, PROTOCOL, 255),
        datagram(20, 19, 0, PROTOCOL, 255),
        datagram(16, 36, 0, PROTOCOL, 255),
        datagram(20, 36, 0x20, PROTOCOL, 255),
        datagram(20, 36, 0, 17, 255),
        vec![0x45; 19],
        vec![0x60; 40],
    ];
    for datagram in wrong {
        assert_eq!(open_ipv4(&datagram), Err(Refusal::IpHeader), "{datagram:02x?}");
    }
    assert_eq!(open_ipv4(&datagram(20, 36, 0, PROTOCOL, 254)).unwrap().0.ttl, 254);
}
