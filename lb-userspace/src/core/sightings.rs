//! Finds out that somebody took our program off an interface: it was seen there, and is no longer.
//!
//! Judges pictures of the network only. A program just attached may be missing from a picture begun before, so what
//! was never seen since is never missed.

use std::collections::BTreeSet;

use super::kernel::{Action, KernelState};
use super::network::Network;

/// Interfaces that a picture showed with a program since we put ours there.
#[derive(Debug, Default)]
pub struct Sightings(BTreeSet<u32>);

impl Sightings {
    pub fn taken(&mut self, action: &Action) {
        if let Action::Attach(ifindex, _) | Action::Detach(ifindex) = action {
            self.0.remove(ifindex);
        }
    }

    /// Interfaces of `actual` that have lost their program.
    pub fn lost(&mut self, network: &Network, actual: &KernelState) -> Vec<u32> {
        let mut lost = Vec::new();
        for ifindex in actual.attached.keys() {
            match network.links.get(ifindex).map(|link| link.xdp) {
                Some(Some(_)) => drop(self.0.insert(*ifindex)),
                Some(None) if self.0.remove(ifindex) => lost.push(*ifindex),
                Some(None) | None => {}
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::Xdp;
    use crate::core::kernel::Attachment;
    use crate::core::network::{Link, XdpAttachment, XdpMode};

    fn picture(shown: bool) -> Network {
        let on = XdpAttachment {
            program_id: 7,
            mode: XdpMode::Native,
        };
        let link = Link {
            name: "eth0".into(),
            mac: [2; 6],
            up: true,
            mtu: 1500,
            addresses: vec![],
            xdp: shown.then_some(on),
        };
        Network {
            links: [(2, link)].into(),
            ..Network::default()
        }
    }

    #[test]
    fn only_what_was_seen_since_it_came_is_missed() {
        let attachment = Attachment {
            interface: "eth0".into(),
            mode: Xdp::Auto,
        };
        let attach = Action::Attach(2, attachment);
        let (mut sightings, mut actual) = (Sightings::default(), KernelState::default());
        actual.apply(&attach);
        sightings.taken(&attach);
        assert!(sightings.lost(&picture(false), &actual).is_empty());
        assert!(sightings.lost(&picture(true), &actual).is_empty());
        assert!(sightings.lost(&Network::default(), &actual).is_empty());
        assert_eq!(sightings.lost(&picture(false), &actual), [2]);
        sightings.lost(&picture(true), &actual);
        sightings.taken(&attach);
        assert!(sightings.lost(&picture(false), &actual).is_empty());
    }
}
