//! The lab's XDP programs on its interfaces: veth gives frames sent by XDP to a peer that has a program, and to no other.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};

use super::Namespace;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab-xdp"));

const PASS: &str = "pass";
const UNPACK: &str = "unpack";

/// The loaded programs; Drop detaches them everywhere.
pub struct PassProgram {
    object: Ebpf,
    /// By namespace and interface.
    links: BTreeMap<(String, String), XdpLink>,
}

impl PassProgram {
    pub fn load() -> Result<Self> {
        let mut object = Ebpf::load(OBJECT).context("load the lab's XDP object")?;
        for name in [PASS, UNPACK] {
            let loaded = xdp(&mut object, name)?.load();
            loaded.with_context(|| format!("load XDP program {name}"))?;
        }
        let links = BTreeMap::new();
        Ok(Self { object, links })
    }

    pub fn attach(&mut self, namespace: &Namespace, interface: &str) -> Result<()> {
        self.put(PASS, namespace, interface)
    }

    /// In place of the other: packets that travel in others (IP in IP) go up without these.
    pub fn attach_unpack(&mut self, namespace: &Namespace, interface: &str) -> Result<()> {
        self.put(UNPACK, namespace, interface)
    }

    fn put(&mut self, name: &str, namespace: &Namespace, interface: &str) -> Result<()> {
        let place = (namespace.name(), interface.to_owned());
        // An interface has one program: the one before goes first.
        self.links.remove(&place);
        let program = xdp(&mut self.object, name)?;
        let link = namespace
            .inside(|| program.attach(interface, XdpMode::Driver))?
            .with_context(|| format!("attach {name} to {interface} in {}", namespace.role()))?;
        self.links.insert(place, program.take_link(link)?);
        Ok(())
    }
}

fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name);
    Ok(program
        .with_context(|| format!("find XDP program {name}"))?
        .try_into()?)
}
