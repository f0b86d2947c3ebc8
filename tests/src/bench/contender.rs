//! Who stands in the load balancer's place, each set up the way its users would for the same service.
//!
//! It measures nothing.

use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Lab, Namespace, Naru, Process, until};

const READY_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The least an XDP program that forwards must do: other MAC addresses, no address translation, one target.
    Redirect,
    /// The same where the frame leaves by the link it came in by.
    Transmit,
    /// The kernel's own IP forwarding: no address translation, no choice of a server.
    Routing,
    /// Full NAT.
    Naru,
    NaruDsrL2,
    NaruDsrIpip,
    Nftables,
    HaProxy,
}

/// What every contender that balances offers.
pub struct Service {
    pub protocol: &'static str,
    pub listen: SocketAddrV4,
    pub backends: Vec<SocketAddrV4>,
    pub max_flows: u32,
}

/// A contender at work; Drop ends it.
pub enum Running<'a> {
    InKernel,
    Naru(Naru<'a>),
    #[expect(dead_code, reason = "held for its Drop")]
    Process(Process),
}

impl Contender {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Transmit => "XDP_TX",
            Self::Routing => "routing",
            Self::Naru => "Naru",
            Self::NaruDsrL2 => "dsr-l2",
            Self::NaruDsrIpip => "dsr-ipip",
            Self::Nftables => "nftables",
            Self::HaProxy => "HAProxy",
        }
    }

    /// The client's link, on which its traffic goes on to the servers.
    pub const fn leaves_by_the_same_link(self) -> bool {
        matches!(self, Self::Transmit | Self::NaruDsrL2 | Self::NaruDsrIpip)
    }

    /// `Redirect` and `Transmit` need no more than their programs, which the bench attaches.
    pub fn start<'a>(self, lab: &Lab, lb: &'a Namespace, service: &Service) -> Result<Running<'a>> {
        match self {
            Self::Redirect | Self::Transmit => Ok(Running::InKernel),
            Self::Routing => {
                lb.sysctl("net/ipv4/ip_forward", "1")?;
                Ok(Running::InKernel)
            }
            Self::Naru => naru(lab, lb, service, "nat").map(Running::Naru),
            Self::NaruDsrL2 => naru(lab, lb, service, "dsr-l2").map(Running::Naru),
            Self::NaruDsrIpip => naru(lab, lb, service, "dsr-ipip").map(Running::Naru),
            Self::Nftables => nftables(lab, lb, service).map(|()| Running::InKernel),
            Self::HaProxy => haproxy(lab, lb, service).map(Running::Process),
        }
    }
}

fn naru<'a>(lab: &Lab, lb: &'a Namespace, service: &Service, mode: &str) -> Result<Naru<'a>> {
    let Service {
        protocol,
        listen,
        backends,
        max_flows,
    } = service;
    let backends: Vec<_> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    let config = format!(
        "[node]\nmax_flows = {max_flows}\n\n[service.bench]\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\n\
         mode = \"{mode}\"\nbackends = [{}]\nidle_timeout = \"1h\"\n",
        backends.join(", ")
    );
    naru_with(lab, lb, &config)
}

/// Naru by a configuration of its own, once its first service is up.
pub fn naru_with<'a>(lab: &Lab, lb: &'a Namespace, config: &str) -> Result<Naru<'a>> {
    let naru = Naru::run(lab, lb, config)?;
    until(READY_WITHIN, || {
        let status = naru.status()?;
        ensure!(status["services"][0]["state"] == "up", "not up: {status}");
        Ok(())
    })?;
    Ok(naru)
}

/// The usual recipe: each new connection goes to the next server, replies come back through here.
fn nftables(lab: &Lab, lb: &Namespace, service: &Service) -> Result<()> {
    let Service {
        protocol,
        listen,
        backends,
        ..
    } = service;
    let servers = backends
        .iter()
        .enumerate()
        .map(|(slot, b)| format!("{slot} : {} . {}", b.ip(), b.port()));
    let rules = format!(
        "table ip bench {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                ip daddr {} {protocol} dport {} dnat ip to numgen inc mod {} map {{ {} }}
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                oifname \"server*\" masquerade
            }}
        }}\n",
        listen.ip(),
        listen.port(),
        backends.len(),
        servers.collect::<Vec<_>>().join(", ")
    );
    let file = lab.folder().join(format!("{}.nft", lb.role()));
    fs::write(&file, rules).context("write the nftables rules")?;
    lb.stdout("nft", &["-f", &file.to_string_lossy()])?;
    // A card would have verified the checksums, and a generator's flows must not expire between rounds.
    lb.sysctl("net/netfilter/nf_conntrack_checksum", "0")?;
    lb.sysctl("net/netfilter/nf_conntrack_udp_timeout", "3600")?;
    lb.sysctl("net/ipv4/ip_forward", "1")
}

fn haproxy(lab: &Lab, lb: &Namespace, service: &Service) -> Result<Process> {
    let Service { listen, backends, .. } = service;
    let servers: String = backends
        .iter()
        .enumerate()
        .map(|(index, backend)| format!("    server s{index} {backend} check\n"))
        .collect();
    let text = format!(
        "global\n    maxconn 4096\ndefaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    \
         timeout client 1m\n    timeout server 1m\nlisten bench\n    bind {listen}\n{servers}"
    );
    haproxy_with(lab, lb, &text)
}

/// HAProxy by a configuration of its own.
pub fn haproxy_with(lab: &Lab, lb: &Namespace, config: &str) -> Result<Process> {
    let file = lab.folder().join(format!("{}.haproxy", lb.role()));
    fs::write(&file, config).context("write the HAProxy configuration")?;
    many_connections(lb)?;
    let log = fs::File::create(lab.folder().join(format!("{}-haproxy.log", lb.role())))?;
    Process::spawn(
        lb.command("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdout(log.try_clone()?)
            .stderr(log),
    )
}

/// For who opens connections by the thousand to one address: else 28,000 ports, each idle for a minute after its
/// connection, are the limit that is measured.
pub fn many_connections(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    namespace.sysctl("net/ipv4/tcp_tw_reuse", "1")
}
