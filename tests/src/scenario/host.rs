//! A host's network as commands build it: links, the routes that come with their addresses, neighbours.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use lb_userspace::core::network::{Device, KernelRoute, Link, Network, Own, Prefix, longest};

/// Clients and a gateway on eth0, which has the service address; two backends on eth1.
const USUAL: [&str; 6] = [
    "link add 2 eth0 02:00:00:00:00:0a 198.18.0.2/24 198.18.0.100/32",
    "link add 3 eth1 02:00:00:00:00:0b 198.18.1.2/24",
    "route 0.0.0.0/0 via 198.18.0.1 eth0",
    "neighbour eth0 198.18.0.1 02:00:00:00:00:01",
    "neighbour eth1 198.18.1.11 02:00:00:00:01:11",
    "neighbour eth1 198.18.1.12 02:00:00:00:01:12",
];

/// Whether the command was one about the network.
pub fn change(network: &mut Network, command: &str) -> Result<bool> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["the", "usual", "network"] => {
            for command in USUAL {
                change(network, command)?;
            }
        }
        ["link", "add", index, name, mac, ref addresses @ ..] => {
            add_link(network, index.parse()?, name, mac, addresses)?
        }
        ["link", "remove", name] => {
            let index = index(network, name)?;
            network.links.remove(&index);
            network.routes.retain(|_, route| route.ifindex != index);
            network.neighbours.retain(|(ifindex, _), _| *ifindex != index);
        }
        ["link", "rename", name, new] => {
            let index = index(network, name)?;
            network.links.get_mut(&index).context("find the link")?.name = new.to_owned();
        }
        ["link", "up" | "down", name] => {
            let index = index(network, name)?;
            network.links.get_mut(&index).context("find the link")?.up = words[1] == "up";
        }
        ["link", "device", name, kind] => {
            let index = index(network, name)?;
            let link = network.links.get_mut(&index).context("find the link")?;
            link.device = match kind {
                "card" => Device::Card,
                "veth" => Device::Veth { peer_has_program: None },
                kind => Device::Software(kind.to_owned()),
            };
        }
        ["address", name, address] => {
            let (address, prefix) = block(address)?;
            let index = index(network, name)?;
            let link = network.links.get_mut(&index).context("find the link")?;
            link.addresses.push(Own::lasting(address, prefix.length));
            network.routes.insert(prefix, on_link(index));
        }
        ["no", "address", name, address] => {
            let (address, prefix) = block(address)?;
            let index = index(network, name)?;
            let link = network.links.get_mut(&index).context("find the link")?;
            link.addresses.retain(|own| own.address != address);
            network
                .routes
                .remove(&prefix)
                .context("find the route of the address")?;
        }
        ["neighbour", name, address, mac] => {
            network
                .neighbours
                .insert((index(network, name)?, address.parse()?), self::mac(mac)?);
        }
        ["no", "neighbour", name, address] => {
            network
                .neighbours
                .remove(&(index(network, name)?, address.parse()?))
                .context("find the neighbour")?;
        }
        ["route", prefix, "via", gateway, name] => {
            let route = KernelRoute {
                ifindex: index(network, name)?,
                gateway: Some(gateway.parse()?),
                source: None,
            };
            network.routes.insert(block(prefix)?.1, route);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn add_link(network: &mut Network, index: u32, name: &str, mac: &str, addresses: &[&str]) -> Result<()> {
    let addresses = addresses.iter().map(|text| block(text)).collect::<Result<Vec<_>>>()?;
    for (_, prefix) in addresses
        .iter()
        .filter(|(address, prefix)| prefix.length < longest(*address))
    {
        network.routes.insert(*prefix, on_link(index));
    }
    let addresses = addresses
        .iter()
        .map(|(address, prefix)| Own::lasting(*address, prefix.length))
        .collect();
    let link = Link {
        name: name.to_owned(),
        mac: self::mac(mac)?,
        up: true,
        mtu: 1500,
        addresses,
        xdp: None,
        device: Device::Card,
    };
    network.links.insert(index, link);
    Ok(())
}

const fn on_link(ifindex: u32) -> KernelRoute {
    KernelRoute {
        ifindex,
        gateway: None,
        source: None,
    }
}

pub fn index(network: &Network, name: &str) -> Result<u32> {
    let link = network.links.iter().find(|(_, link)| link.name == name);
    Ok(*link.with_context(|| format!("there is no link {name}"))?.0)
}

fn block(text: &str) -> Result<(IpAddr, Prefix)> {
    let (address, length) = text.split_once('/').context("a block is ADDRESS/LENGTH")?;
    let address = address.parse()?;
    Ok((address, Prefix::around(address, length.parse()?)))
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .context("read a MAC address")?;
    match bytes.try_into() {
        Ok(mac) => Ok(mac),
        Err(_) => bail!("{text} is no MAC address"),
    }
}
