//! Other ways through the lab's network than the usual ones: backends that answer clients themselves, hosts behind
//! gateways, answers that come by another link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

use super::{Topology, VIP, VIP6, backend_addresses, cable};
use crate::lab::{Lab, Namespace};

/// The host that `behind` makes.
pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 2, 2));
pub const FAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2));

impl Topology {
    /// As the modes dsr-l2 and dsr-ipip have it: each backend has the listen addresses without telling anybody, takes
    /// packets out of those they travel in, and answers over a link that the client has in its network. Over the node
    /// there is no way: it does not forward.
    pub fn answer_directly(&mut self) -> Result<()> {
        cable(&self.client, "direct", &self.switch, "client")?;
        self.switch.ip("link set client master bridge")?;
        self.client
            .ip("addr add 198.18.1.2/24 dev direct\naddr add 2001:db8:1::2/64 dev direct nodad")?;
        self.client.no_offload("direct")?;
        self.pass.attach(&self.switch, "client")?;
        self.pass.attach(&self.client, "direct")?;
        for backend in &self.backends {
            backend.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
            backend.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
            backend.ip(&format!(
                "addr add {VIP}/32 dev lo\naddr add {VIP6}/128 dev lo\n\
                 route add 198.18.0.0/24 via 198.18.1.2\nroute add 2001:db8::/64 via 2001:db8:1::2"
            ))?;
            self.pass.attach_unpack(backend, "eth0")?;
        }
        Ok(())
    }

    /// A host called `far`, at `FAR` and `FAR6`, behind another one of the network, which routes for it by its
    /// interface `far`. The node knows the way.
    pub fn behind(&mut self, lab: &Lab, gateway: &str) -> Result<Namespace> {
        let far = lab.namespace("far")?;
        far.speak_ipv6()?;
        let (host, _) = find(&self.client, &self.backends, gateway)?;
        host.forward(true)?;
        cable(&far, "eth0", host, "far")?;
        host.ip("addr add 198.18.2.1/24 dev far\naddr add 2001:db8:2::1/64 dev far nodad")?;
        far.ip(&format!(
            "addr add {FAR}/24 dev eth0\naddr add {FAR6}/64 dev eth0 nodad\n\
             route add default via 198.18.2.1\nroute add default via 2001:db8:2::1"
        ))?;
        far.no_offload("eth0")?;
        self.pass.attach(&far, "eth0")?;
        self.pass.attach(host, "far")?;
        self.lead_far_by(gateway)?;
        Ok(far)
    }

    /// The node's packets to the host `far` go by this one.
    pub fn lead_far_by(&self, gateway: &str) -> Result<()> {
        let (_, [ipv4, ipv6]) = find(&self.client, &self.backends, gateway)?;
        self.node.ip(&format!(
            "route replace 198.18.2.0/24 via {ipv4}\nroute replace 2001:db8:2::/64 via {ipv6}"
        ))
    }

    /// A second link between the client and the node, `back` at both ends.
    pub fn second_link(&mut self) -> Result<()> {
        cable(&self.client, "back", &self.node, "back")?;
        self.client
            .ip("addr add 198.18.3.2/24 dev back\naddr add 2001:db8:3::2/64 dev back nodad")?;
        self.node
            .ip("addr add 198.18.3.1/24 dev back\naddr add 2001:db8:3::1/64 dev back nodad")?;
        self.client.no_offload("back")?;
        self.pass.attach(&self.client, "back")
    }

    /// What the node sends to the client goes by the second link, or by the first again.
    pub fn answer_by_second_link(&self, second: bool) -> Result<()> {
        let act = if second { "add" } else { "del" };
        let [ipv4, ipv6] = CLIENT;
        self.node.ip(&format!(
            "route {act} {ipv4}/32 via 198.18.3.2\nroute {act} {ipv6}/128 via 2001:db8:3::2"
        ))
    }

    /// Pulls the cable between the node and the backends' switch, or plugs it in again.
    pub fn plug_in_servers(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set node {state}"))
    }
}

const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
];

/// A host and its addresses towards the node.
fn find<'n>(client: &'n Namespace, backends: &'n [Namespace], role: &str) -> Result<(&'n Namespace, [IpAddr; 2])> {
    if role == client.role() {
        return Ok((client, CLIENT));
    }
    let index = backends.iter().position(|backend| backend.role() == role);
    let index = index.with_context(|| format!("find host {role}"))?;
    Ok((&backends[index], backend_addresses(index).map(|address| address.ip())))
}
