//! Chooses native or generic XDP for an interface, and says why.
//!
//! `auto` means the mode in which frames arrive. Cards get native XDP, generic where the driver has none or where most of
//! what native XDP sends is lost. Devices that exist in software get generic XDP: their far end leaves checksums and
//! segments to whoever sends the frame on, and may take no frame that native XDP sends.

use super::config::Xdp;
use super::network::{Device, XdpMode};

/// The word that the attachment gets. `Auto`: native, or generic where the driver refuses.
pub fn choose(asked: Xdp, device: &Device, loses_frames: bool) -> Xdp {
    match (asked, device) {
        (Xdp::Native | Xdp::Generic, _) => asked,
        (Xdp::Auto, _) if loses_frames => Xdp::Generic,
        (Xdp::Auto, Device::Card) => Xdp::Auto,
        // Its ports are cards, and its driver hands frames on to theirs.
        (Xdp::Auto, Device::Software(kind)) if kind == "bond" => Xdp::Auto,
        (Xdp::Auto, Device::Veth { .. } | Device::Software(_)) => Xdp::Generic,
    }
}

/// Whether a program that runs in this mode is what `chosen` asks for.
pub fn satisfies(chosen: Xdp, mode: XdpMode) -> bool {
    match chosen {
        Xdp::Auto => true,
        Xdp::Native => mode == XdpMode::Native,
        Xdp::Generic => mode == XdpMode::Generic,
    }
}

/// What is known of an interface with our program on it.
pub struct Facts<'a> {
    pub asked: Xdp,
    pub device: &'a Device,
    pub mode: XdpMode,
    /// Why the driver refused native XDP, if this daemon asked it.
    pub refusal: Option<&'a str>,
    /// Frames that native XDP had lost when it was given up.
    pub given_up_after: Option<u64>,
}

impl Facts<'_> {
    /// Why the interface has this mode, for an operator.
    pub fn reason(&self) -> String {
        if self.asked != Xdp::Auto {
            return "set by [node] xdp".to_owned();
        }
        match (self.mode, self.device) {
            (XdpMode::Native, _) => "the driver has it".to_owned(),
            (XdpMode::Generic, _) if self.given_up_after.is_some() => {
                let lost = self.given_up_after.unwrap_or_default();
                format!("native XDP lost {lost} frames here")
            }
            (XdpMode::Generic, Device::Veth { .. }) => {
                "a veth: its peer may take no frame of native XDP, and offloads stay on".to_owned()
            }
            (XdpMode::Generic, Device::Software(kind)) if kind == "tun" => {
                "a tap: who reads it may leave checksums to us, which native XDP cannot complete".to_owned()
            }
            (XdpMode::Generic, Device::Software(kind)) if kind != "bond" => {
                format!("a {kind}: its driver has no native XDP")
            }
            (XdpMode::Generic, _) => match self.refusal {
                Some(refusal) => format!("the driver refuses native XDP: {refusal}"),
                None => "an earlier start found native XDP refused, or losing frames".to_owned(),
            },
        }
    }

    /// Why frames that native XDP sends from here cannot arrive, where the file insists on it.
    pub fn warning(&self, name: &str) -> Option<String> {
        if self.mode != XdpMode::Native {
            return None;
        }
        let why = match self.device {
            Device::Veth {
                peer_has_program: Some(true),
            }
            | Device::Card => return None,
            Device::Veth {
                peer_has_program: Some(false),
            } => "its peer has no XDP program, so veth drops what native XDP sends",
            Device::Veth { peer_has_program: None } => {
                "veth drops what native XDP sends unless the peer has an XDP program, and this peer cannot be seen from \
                 here"
            }
            Device::Software(kind) if kind == "tun" => {
                "who reads this tap gets checksums that are not complete where their senders left them to the card"
            }
            Device::Software(_) => return None,
        };
        Some(format!(
            "{name}: {why}; set [node] xdp = \"auto\" or \"generic\", or give the peer a program and turn its checksum \
             offload off (`ethtool -K … tx off`)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VETH: Device = Device::Veth { peer_has_program: None };

    fn software(kind: &str) -> Device {
        Device::Software(kind.to_owned())
    }

    #[test]
    fn auto_is_native_for_cards_only() {
        assert_eq!(choose(Xdp::Auto, &Device::Card, false), Xdp::Auto);
        assert_eq!(choose(Xdp::Auto, &software("bond"), false), Xdp::Auto);
        for device in [VETH, software("tun"), software("bridge"), software("macvlan")] {
            assert_eq!(choose(Xdp::Auto, &device, false), Xdp::Generic, "{device:?}");
        }
    }

    #[test]
    fn frames_that_are_lost_end_auto_but_not_what_the_file_insists_on() {
        assert_eq!(choose(Xdp::Auto, &Device::Card, true), Xdp::Generic);
        assert_eq!(choose(Xdp::Native, &VETH, true), Xdp::Native);
        assert_eq!(choose(Xdp::Generic, &Device::Card, false), Xdp::Generic);
    }

    #[test]
    fn each_reason_names_what_decided() {
        let facts = |device, mode| Facts {
            asked: Xdp::Auto,
            device,
            mode,
            refusal: None,
            given_up_after: None,
        };
        let (card, bridge) = (Device::Card, software("bridge"));
        assert!(facts(&VETH, XdpMode::Generic).reason().contains("veth"));
        assert!(facts(&bridge, XdpMode::Generic).reason().contains("a bridge"));
        assert_eq!(facts(&card, XdpMode::Native).reason(), "the driver has it");
        let refused = Facts {
            refusal: Some("Operation not supported"),
            ..facts(&card, XdpMode::Generic)
        };
        assert!(refused.reason().ends_with("Operation not supported"));
        let given_up = Facts {
            given_up_after: Some(23),
            ..facts(&card, XdpMode::Generic)
        };
        assert_eq!(given_up.reason(), "native XDP lost 23 frames here");
    }

    #[test]
    fn native_on_a_veth_is_warned_of_unless_its_peer_takes_frames() {
        let warns = |peer_has_program| {
            let facts = Facts {
                asked: Xdp::Native,
                device: &Device::Veth { peer_has_program },
                mode: XdpMode::Native,
                refusal: None,
                given_up_after: None,
            };
            facts.warning("eth0").is_some()
        };
        assert!(warns(None) && warns(Some(false)) && !warns(Some(true)));
    }
}
