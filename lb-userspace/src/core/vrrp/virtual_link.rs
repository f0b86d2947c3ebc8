//! The virtual MAC of an instance, and the interface of ours that has it: its name tells whose it is, also of one that a
//! dead daemon left behind.
//!
//! Names things only: `io/netlink` makes them.

use std::fmt;

use super::settings::Key;
use crate::core::dns::Family;

/// On top of the interface of a section, and the shared addresses are on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualLink {
    pub family: Family,
    pub id: u8,
    /// Index of the interface below it: another one may have the same id.
    pub parent: u32,
}

/// RFC 9568 §7.3.
pub const fn virtual_mac(family: Family, id: u8) -> [u8; 6] {
    let kind = match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    };
    [0, 0, 0x5e, 0, kind, id]
}

impl VirtualLink {
    pub const fn of(instance: &Key, parent: u32) -> Self {
        Self {
            family: instance.family,
            id: instance.id,
            parent,
        }
    }

    pub const fn mac(&self) -> [u8; 6] {
        virtual_mac(self.family, self.id)
    }

    /// None: the interface is none of ours.
    pub fn recognise(name: &str, mac: [u8; 6]) -> Option<Self> {
        let (family, rest) = name.strip_prefix("naru")?.split_once('-')?;
        let (id, parent) = rest.split_once('-')?;
        let link = Self {
            family: match family {
                "4" => Family::Ipv4,
                "6" => Family::Ipv6,
                _ => return None,
            },
            id: id.parse().ok()?,
            parent: u32::from_str_radix(parent, 16).ok()?,
        };
        (link.to_string() == name && link.mac() == mac).then_some(link)
    }
}

/// Its name, of which the kernel takes 15 characters: so the index is in hexadecimal.
impl fmt::Display for VirtualLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, id, parent } = self;
        let family = match family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        };
        write!(f, "naru{family}-{id}-{parent:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_by_name_and_mac() {
        let link = VirtualLink {
            family: Family::Ipv6,
            id: 255,
            parent: 0xf_ffff,
        };
        assert_eq!(link.to_string(), "naru6-255-fffff");
        assert_eq!(link.mac(), [0, 0, 0x5e, 0, 2, 255]);
        assert_eq!(VirtualLink::recognise("naru6-255-fffff", link.mac()), Some(link));

        let mac = virtual_mac(Family::Ipv4, 51);
        assert_eq!(mac, [0, 0, 0x5e, 0, 1, 51]);
        assert!(VirtualLink::recognise("naru4-51-2", mac).is_some());
        for foreign in [
            "naru4-51",
            "naru4-51-02",
            "naru4-51-2-2",
            "naru5-51-2",
            "vrrp4-51-2",
            "naru4-256-2",
            "eth0",
        ] {
            assert_eq!(VirtualLink::recognise(foreign, mac), None, "{foreign}");
        }
        assert_eq!(VirtualLink::recognise("naru4-52-2", mac), None, "another MAC");
    }
}
