//! The XDP program that only passes: veth gives frames sent by XDP to a peer that has a program, and to no other.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};

use super::Namespace;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab-xdp"));

/// The loaded program; Drop detaches it everywhere.
pub struct PassProgram {
    object: Ebpf,
}

impl PassProgram {
    pub fn load() -> Result<Self> {
        let mut object = Ebpf::load(OBJECT).context("load the lab's XDP object")?;
        xdp(&mut object)?.load().context("load XDP program pass")?;
        Ok(Self { object })
    }

    pub fn attach(&mut self, namespace: &Namespace, interface: &str) -> Result<()> {
        let program = xdp(&mut self.object)?;
        namespace
            .inside(|| program.attach(interface, XdpMode::Driver))?
            .with_context(|| format!("attach pass to {interface} in {}", namespace.role()))?;
        Ok(())
    }
}

fn xdp(object: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(object
        .program_mut("pass")
        .context("find XDP program pass")?
        .try_into()?)
}
