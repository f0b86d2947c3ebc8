//! What the program notes of backends in maps of its own, which the daemon never sees: kept the same on both sides.

use std::cell::Cell;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use aya::Pod;
use aya::maps::{Array, Map, MapData, MapInfo};
use lb_common::abi::{Backend, BackendId, SNAT_PORTS_HIGH, SNAT_PORTS_LOW, TCP, UDP};
use lb_common::family::Address;
use lb_common::flow_table::FlowKey;
use lb_common::port_rest::Notes as PortNotes;
use lb_common::ports::endpoint;
use lb_common::wire::{Be32, Ip};
use lb_userspace::io::bpf::Kernel;

use super::model::Model;

pub(super) struct Notes {
    port_turns: Array<MapData, u64>,
    port_notes: Array<MapData, PortNotes>,
    exhausted: Array<MapData, u32>,
    signed: Array<MapData, u32>,
}

impl Notes {
    pub(super) fn of(kernel: &Kernel) -> Result<Self> {
        Ok(Self {
            port_turns: array(kernel, "PORT_TURNS")?,
            port_notes: array(kernel, "PORT_NOTES")?,
            exhausted: array(kernel, "EXHAUSTED")?,
            signed: array(kernel, "SIGNED")?,
        })
    }

    pub(super) fn next_port<'b>(
        &mut self,
        model: &Model,
        backends: impl Iterator<Item = &'b Backend>,
        port: u16,
    ) -> Result<()> {
        let above = |first: u16| u64::from(port - first);
        let number = if port <= SNAT_PORTS_LOW.1 {
            above(SNAT_PORTS_LOW.0)
        } else {
            u64::from(SNAT_PORTS_LOW.1 - SNAT_PORTS_LOW.0) + 1 + above(SNAT_PORTS_HIGH.0)
        };
        let before = number.wrapping_sub(1);
        for backend in backends {
            for protocol in [TCP, UDP] {
                let endpoint = endpoint_of(backend, protocol);
                self.port_turns.set(u32::from(endpoint), before, 0)?;
                model.port_turns.borrow_mut().insert(endpoint, before);
            }
        }
        Ok(())
    }

    /// None of what happened at some time has happened.
    pub(super) fn forget_ticks(&mut self, model: &Model, backends: impl Iterator<Item = BackendId>) -> Result<()> {
        for (line, of_model) in written(model) {
            self.port_notes.set(line, PortNotes::default(), 0)?;
            of_model.set(PortNotes::default());
        }
        for id in backends {
            for (of_kernel, of_model) in [
                (&mut self.exhausted, &model.exhausted),
                (&mut self.signed, &model.signed),
            ] {
                of_kernel.set(u32::from(id), 0, 0)?;
                of_model[usize::from(id)].set(0);
            }
        }
        Ok(())
    }

    /// Whenever the kernel says it was.
    pub(super) fn agree(&self, model: &Model, backends: impl Iterator<Item = BackendId>) -> Result<()> {
        for (line, of_model) in written(model) {
            of_model.set(self.port_notes.get(&line, 0)?);
        }
        for id in backends {
            for (of_kernel, of_model) in [(&self.exhausted, &model.exhausted), (&self.signed, &model.signed)] {
                of_model[usize::from(id)].set(of_kernel.get(&u32::from(id), 0)?);
            }
        }
        Ok(())
    }
}

/// The lines of `port_rest` that a packet has written to.
fn written(model: &Model) -> impl Iterator<Item = (u32, &Cell<PortNotes>)> {
    let lines = (0..).zip(&model.port_notes);
    lines.filter(|(_, line)| line.get() != PortNotes::default())
}

fn endpoint_of(backend: &Backend, protocol: u8) -> u16 {
    match backend.address.into() {
        IpAddr::V4(_) => endpoint(&reply::<Be32>(backend, protocol)),
        IpAddr::V6(_) => endpoint(&reply::<Ip>(backend, protocol)),
    }
}

fn reply<A: Address>(backend: &Backend, protocol: u8) -> FlowKey<A> {
    FlowKey {
        source: A::from_ip(&backend.address),
        source_port: backend.port,
        protocol,
        ..FlowKey::default()
    }
}

/// Of the programs of `kernel`: others may be loaded.
pub(super) fn map(kernel: &Kernel, name: &str) -> Result<MapData> {
    for program in kernel.programs()?.values() {
        for id in program.map_ids()?.context("the maps of a program")? {
            if MapInfo::from_id(id)?.name_as_str() == Some(name) {
                return Ok(MapData::from_id(id)?);
            }
        }
    }
    bail!("no program here has a map {name}")
}

fn array<V: Pod>(kernel: &Kernel, name: &str) -> Result<Array<MapData, V>> {
    Ok(Array::try_from(Map::Array(map(kernel, name)?))?)
}
