//! Messages that are sealed with a key which only the nodes of an instance have: adverts, and greetings, by which nodes
//! prove to each other that they are alive.
//!
//! A seal says who speaks (a session) and which of its messages it is. Whether that is news is for `sessions`. The tag covers
//! every byte of the message but its checksum, source and destination, and neither interface nor TTL.
//! docs/adr/0007 says why. Tested here and by the laws in `tests/it/vrrp`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU128;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::packet::{self, Advert, Envelope, Format, HEADER, Parts, Version};
use super::refusal::Refusal;

#[cfg(test)]
mod tests;

/// Of its packets among those of VRRP: other implementations drop what is no advert.
pub const GREETING: u8 = 15;
/// What a seal adds to an advert: its mark, the session, the number, and the tag.
pub const LENGTH: usize = MARK.len() + 16 + TAG;

const MARK: [u8; 4] = *b"nar\x01";
/// As short as RFC 4868 has it for SHA-256: nobody finds one of 128 bits by trying.
const TAG: usize = 16;
/// So that a tag made for anything else with the same key is none.
const PURPOSE: &[u8] = b"naru vrrp 1";
const SHORTEST: usize = 16;

/// The first seals; what is sealed with any of them is opened, so that nodes can change theirs one after the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    first: Vec<u8>,
    second: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecrets {
    #[error("it holds no key; `openssl rand -hex 32` makes one")]
    None,
    #[error("it holds more than two keys; one in each line, the one to seal with first")]
    TooMany,
    #[error("a key of less than {SHORTEST} characters can be guessed; `openssl rand -hex 32` makes a better one")]
    TooShort,
}

/// Who sealed a message, and how many it had sealed by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub session: u64,
    pub number: u64,
}

/// What nodes tell each other beside adverts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Its sender wants to hear this number again, to know that the other is alive.
    pub question: Option<NonZeroU128>,
    /// The number that the other wants to hear.
    pub answer: Option<NonZeroU128>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Advert(Advert),
    Greeting(Greeting),
}

impl Secrets {
    /// One in each line.
    pub fn read(text: &[u8]) -> Result<Self, BadSecrets> {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut keys = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec);
        let (first, second) = (keys.next().ok_or(BadSecrets::None)?, keys.next());
        if keys.next().is_some() {
            return Err(BadSecrets::TooMany);
        }
        if second.iter().chain([&first]).any(|key| key.len() < SHORTEST) {
            return Err(BadSecrets::TooShort);
        }
        Ok(Self { first, second })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Before it is sealed.
pub fn write_greeting(id: u8, greeting: &Greeting) -> Vec<u8> {
    let mut bytes = vec![Version::V3.number() << 4 | GREETING, id, 0, 0, 0, 0, 0, 0];
    for number in [greeting.question, greeting.answer] {
        bytes.extend(number.map_or(0, NonZeroU128::get).to_be_bytes());
    }
    bytes
}

/// Puts the seal behind a message, and its checksum right.
pub fn seal(
    mut message: Vec<u8>,
    stamp: Stamp,
    secrets: &Secrets,
    format: &Format,
    source: IpAddr,
    destination: IpAddr,
) -> Vec<u8> {
    message.extend(MARK);
    message.extend(stamp.session.to_be_bytes());
    message.extend(stamp.number.to_be_bytes());
    let tag = digest(&secrets.first, source, destination, &message).finalize();
    message.extend(&tag.into_bytes()[..TAG]);
    packet::put_sum(&mut message, format, source, destination);
    message
}

/// Whether these bytes, behind an advert's addresses, may be a seal.
pub fn is_seal(bytes: &[u8]) -> bool {
    bytes.len() == LENGTH && bytes.starts_with(&MARK)
}

/// What was sealed with one of the keys, if the bytes are in order in every respect.
pub fn open(
    payload: &[u8],
    envelope: &Envelope,
    format: &Format,
    secrets: &Secrets,
) -> Result<(Message, Stamp), Refusal> {
    packet::id(payload)?;
    let Some((message, seal)) = payload.split_last_chunk::<LENGTH>() else {
        return Err(Refusal::Unsealed);
    };
    if message.len() < HEADER || !is_seal(seal) {
        return Err(Refusal::Unsealed);
    }
    if !packet::sum_is_right(payload, envelope, format.version) {
        return Err(Refusal::Checksum);
    }
    let (sealed, tag) = payload.split_at(payload.len() - TAG);
    let opens = |key: &Vec<u8>| {
        let digest = digest(key, envelope.source, envelope.destination, sealed);
        digest.verify_truncated_left(tag).is_ok()
    };
    if !opens(&secrets.first) && !secrets.second.as_ref().is_some_and(opens) {
        return Err(Refusal::AnotherKey);
    }
    let number = |at: usize| seal[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let stamp = Stamp {
        session: number(MARK.len()),
        number: number(MARK.len() + 8),
    };
    let message = if packet::is_greeting(payload) {
        Message::Greeting(read_greeting(message)?)
    } else {
        Message::Advert(Parts::of(message, envelope, format)?.advert(envelope, format)?)
    };
    Ok((message, stamp))
}

fn read_greeting(message: &[u8]) -> Result<Greeting, Refusal> {
    let Some(([question, answer], [])) = message.get(HEADER..).map(<[u8]>::as_chunks::<16>) else {
        return Err(Refusal::Truncated);
    };
    let number = |bytes: &[u8; 16]| NonZeroU128::new(u128::from_be_bytes(*bytes));
    Ok(Greeting {
        question: number(question),
        answer: number(answer),
    })
}

/// `sealed`: up to the tag.
fn digest(key: &[u8], source: IpAddr, destination: IpAddr, sealed: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(PURPOSE);
    for address in [source, destination] {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        mac.update(&address.octets());
    }
    let (before, sum) = sealed.split_at(HEADER - 2);
    mac.update(before);
    mac.update(&sum[2..]);
    mac
}
