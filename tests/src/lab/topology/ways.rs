//! Other ways through the lab's network than the usual ones: backends that answer clients themselves.

use anyhow::Result;

use super::{Topology, VIP, VIP6, cable};

impl Topology {
    /// As the modes dsr-l2 and dsr-ipip have it: each backend has the listen addresses without telling anybody, takes
    /// packets out of those they travel in, and answers over a link that the client has in its network. Over the node
    /// there is no way: it does not forward.
    pub fn answer_directly(&mut self) -> Result<()> {
        cable(&self.client, "direct", &self.switch, "client")?;
        self.switch.ip("link set client master bridge")?;
        self.client
            .ip("addr add 198.18.1.2/24 dev direct\naddr add 2001:db8:1::2/64 dev direct")?;
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
}
