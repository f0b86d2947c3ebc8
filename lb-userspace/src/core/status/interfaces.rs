//! Each interface with the program: its mode, why it has that, and the frames it loses.

use std::time::Instant;

use super::{Counters, Interface};
use crate::core::config::Xdp;
use crate::core::kernel::KernelState;
use crate::core::network::{Device, Link, XdpMode};
use crate::core::world::World;
use crate::core::xdp_mode::Facts;

pub fn interfaces(world: &World, actual: &KernelState, counters: &Counters) -> Vec<Interface> {
    let interface = |(ifindex, name): (&u32, &str)| {
        let link = link(world, *ifindex);
        let refusal = counters.native_refused.get(ifindex);
        let facts = link.and_then(|link| facts(world, *ifindex, link, refusal));
        Interface {
            name: name.to_owned(),
            xdp: facts.as_ref().map(|facts| word(facts.mode).to_owned()),
            device: link.map_or_else(String::new, |link| device(&link.device).to_owned()),
            reason: facts.map_or_else(String::new, |facts| facts.reason()),
            lost_frames: world.native_lost(*ifindex),
        }
    };
    let attached = actual.attached.iter();
    attached
        .map(|(ifindex, on)| interface((ifindex, &on.interface)))
        .collect()
}

/// Where frames that the program sends do not arrive, or may not.
pub fn warnings(world: &World, actual: &KernelState, now: Instant) -> Vec<String> {
    let mut warnings: Vec<String> = large_segments(world, actual).into_iter().collect();
    for (ifindex, on) in &actual.attached {
        let facts = link(world, *ifindex).and_then(|link| facts(world, *ifindex, link, None));
        let unfit = facts.and_then(|facts| facts.warning(&on.interface));
        let remedy = if unfit.is_some() {
            ""
        } else {
            ": its queues are full, or its driver cannot send them; `ethtool -S` shows which; [node] xdp = \"generic\" does \
             without native XDP"
        };
        warnings.extend(unfit);
        // Where generic XDP has taken its place the reason of the mode tells.
        let lost = world
            .native_loses(*ifindex, now)
            .filter(|_| world.native_given_up(*ifindex).is_none());
        warnings.extend(lost.map(|lost| {
            let name = &on.interface;
            format!("{name}: {lost} frames that native XDP sent were lost, some within the last minute{remedy}")
        }));
    }
    warnings
}

/// Generic XDP redirects no frame that is longer than the MTU, and a veth takes segments of 64 kB from its peer.
fn large_segments(world: &World, actual: &KernelState) -> Option<String> {
    let is_left_to_us = world.node().is_some_and(|node| node.xdp == Xdp::Auto);
    let is_generic_veth = |ifindex: &u32| {
        link(world, *ifindex).is_some_and(|link| {
            let is_generic = link.xdp.is_some_and(|on| on.mode == XdpMode::Generic);
            is_generic && matches!(link.device, Device::Veth { .. })
        })
    };
    let veths: Vec<&str> = actual
        .attached
        .iter()
        .filter(|(ifindex, _)| is_generic_veth(ifindex))
        .map(|(_, on)| on.interface.as_str())
        .collect();
    let (names, is_split) = (veths.join(", "), actual.attached.len() > 1);
    (is_left_to_us && is_split && !veths.is_empty()).then(|| {
        format!(
            "{names}: generic XDP loses segments longer than the MTU on their way to another interface, so large transfers \
             crawl; turn them off at the peers of the veths (`ethtool -K … tso off gso off`) and set [node] xdp = \"generic\", \
             or have clients and backends behind one interface"
        )
    })
}

fn link(world: &World, ifindex: u32) -> Option<&Link> {
    world.network()?.links.get(&ifindex)
}

fn facts<'a>(world: &World, ifindex: u32, link: &'a Link, refusal: Option<&'a String>) -> Option<Facts<'a>> {
    Some(Facts {
        asked: world.node().map_or(Xdp::Auto, |node| node.xdp),
        device: &link.device,
        mode: link.xdp?.mode,
        refusal: refusal.map(String::as_str),
        given_up_after: world.native_given_up(ifindex),
    })
}

fn word(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Native => "native",
        XdpMode::Generic => "generic",
    }
}

fn device(device: &Device) -> &str {
    match device {
        Device::Card => "card",
        Device::Veth { .. } => "veth",
        Device::Software(kind) => kind,
    }
}
