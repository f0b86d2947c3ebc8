//! The kernel's side: loads the XDP program on pinned maps, takes the planned actions, reads the state back.
//!
//! Decides nothing. It is the only writer of the maps but for the flow table, which the program writes too.

mod attach;
mod kept;
mod leases;
mod mapped;
mod pins;
mod signs;
mod slot_tables;
mod stages;
mod syscall;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{Program, ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{
    Backend, BackendId, ENTRIES_PER_FLOW, Listen, MAX_BACKENDS, MAX_LISTENS, MAX_PORT_TURNS, MAX_ROUTES, MAX_SERVICES,
    MAX_SHARED_ADDRESSES, Route, Service, ServiceId, Traffic,
};
use lb_common::flow_table::FlowEntry;
use lb_common::lease::{LeaseId, MAX_LEASES};
use lb_common::port_rest::{ENTRIES_PER_LINE, Notes};
use lb_common::verdict::{MAX_REASONS, Reason};
use lb_common::wire::{Be32, Ip};

use self::kept::Kept;
pub use self::leases::Leases;
pub use self::mapped::MappedArray;
use self::mapped::map_data;
use self::pins::{Pins, Shape};
pub use self::signs::{AwaitedSigns, Signs};
use self::slot_tables::SlotTables;
use super::flows::{ActiveFlows, FlowTable, FlowTables};
use super::random;
use crate::core::fingerprint::mix;
use crate::core::kernel::{Action, Attachment, KernelState, flow_entries};
use crate::core::network::Prefix;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/naru-xdp"));

const PROGRAM: &str = "naru";
const PORT_NOTES: &str = "PORT_NOTES";
const PORT_TURNS: &str = "PORT_TURNS";

pub struct Kernel {
    pins: Pins,
    kept: Kept,
    /// Owns the program.
    object: Ebpf,
    services: HashMap<MapData, Listen, Service>,
    slots: SlotTables,
    backends: Array<MapData, Backend>,
    routes: LpmTrie<MapData, Ip, Route>,
    shared: HashMap<MapData, Ip, u32>,
    verdicts: PerCpuArray<MapData, u64>,
    traffic: PerCpuArray<MapData, Traffic>,
    flows: FlowTables,
    leases: Arc<Leases>,
    attached: BTreeMap<u32, Attachment>,
    native_refused: BTreeMap<u32, String>,
}

impl Kernel {
    /// Loads the program on the maps pinned below `pin_dir`, making those that are not there, and puts it in the
    /// place of an older one wherever that is attached. Where this fails, what ran before goes on as it was.
    pub fn open(pin_dir: &Path, max_flows: u32) -> Result<Self> {
        let pins = Pins::open(pin_dir)?;
        match Self::load(&pins, max_flows) {
            Ok(object) => {
                let mut kernel = Self::with_maps(pins, object)?;
                stages::pin_next(&kernel.object, &kernel.pins)?;
                kernel.replace_older()?;
                stages::pin(&kernel.pins)?;
                kernel.keep_pins()?;
                Ok(kernel)
            }
            Err(error) => {
                pins.remove_if_fresh()?;
                Err(error)
            }
        }
    }

    fn load(pins: &Pins, max_flows: u32) -> Result<Ebpf> {
        for shape in SHAPES {
            pins.check(shape)?;
        }
        let entries = match aya::maps::MapInfo::from_pin(pins.map("FLOWS")) {
            Ok(pinned) => {
                report_other_size(pinned.max_entries(), max_flows);
                pinned.max_entries()
            }
            Err(_) => flow_entries(max_flows),
        };
        // One mask serves both.
        pins.check(&Shape::of::<u32, FlowEntry<Ip>>("FLOWS6", Some(entries)))?;
        let notes = entries / ENTRIES_PER_LINE;
        pins.check(&Shape::of::<u32, Notes>(PORT_NOTES, Some(notes)))?;
        let mask = entries - 1;
        let turns_are_new = !pins.map(PORT_TURNS).exists();
        let paths: Vec<_> = SHAPES.iter().map(|shape| (shape.name, pins.map(shape.name))).collect();
        let mut loader = EbpfLoader::new();
        for (name, path) in &paths {
            loader.map_pin_path(name, path);
        }
        let mut object = loader
            .map_max_entries("FLOWS", entries)
            .map_max_entries("FLOWS6", entries)
            .map_max_entries(PORT_NOTES, notes)
            .override_global("FLOW_MASK", &mask, true)
            .override_global(aya_log::LEVEL, &told::level(), true)
            .load(OBJECT)
            .context("make the maps of the XDP program")?;
        if turns_are_new {
            begin_turns_anywhere(&object)?;
        }
        stages::load(&mut object)?;
        told::listen(&mut object)?;
        Ok(object)
    }

    fn with_maps(pins: Pins, mut object: Ebpf) -> Result<Self> {
        let mut take = |name: &str| {
            object
                .take_map(name)
                .with_context(|| format!("find map {name} in the object"))
        };
        let (ipv4, ipv6, active) = (take("FLOWS")?, take("FLOWS6")?, take("ACTIVE")?);
        let leases = take("LEASES")?;
        let active = Arc::new(ActiveFlows(MappedArray::new(map_data(&active)?)?));
        Ok(Self {
            services: HashMap::try_from(take("SERVICES")?)?,
            slots: SlotTables::new(take("SLOTS")?, &pins.folder),
            backends: Array::try_from(take("BACKENDS")?)?,
            routes: LpmTrie::try_from(take("ROUTES")?)?,
            shared: HashMap::try_from(take("SHARED_ADDRESSES")?)?,
            verdicts: PerCpuArray::try_from(take("VERDICTS")?)?,
            traffic: PerCpuArray::try_from(take("TRAFFIC")?)?,
            flows: FlowTables {
                ipv4: FlowTable::new(MappedArray::new(map_data(&ipv4)?)?, active.clone()),
                ipv6: FlowTable::new(MappedArray::new(map_data(&ipv6)?)?, active),
            },
            leases: Arc::new(Leases::new(MappedArray::new(map_data(&leases)?)?)),
            attached: BTreeMap::new(),
            kept: Kept::default(),
            native_refused: BTreeMap::new(),
            pins,
            object,
        })
    }

    fn replace_older(&mut self) -> Result<()> {
        for (ifindex, attachment) in attach::pinned(&self.pins.folder)? {
            if attach::replace(program(&mut self.object), &self.pins.folder, ifindex, &attachment)? {
                self.attached.insert(ifindex, attachment);
            }
        }
        Ok(())
    }

    /// What the maps and interfaces hold now.
    pub fn snapshot(&self) -> Result<KernelState> {
        let mut state = KernelState {
            attached: self.attached.clone(),
            ..KernelState::default()
        };
        for entry in self.services.iter() {
            let (listen, service) = entry.context("read services")?;
            state.listens.insert(listen, service);
        }
        for id in 1..MAX_BACKENDS {
            let backend = self.backends.get(&id, 0).context("read backends")?;
            if backend.fingerprint != 0 {
                state.backends.insert(id as BackendId, backend);
            }
        }
        for entry in self.routes.iter() {
            let (key, route) = entry.context("read routes")?;
            state
                .routes
                .insert(Prefix::from_key(key.data(), key.prefix_len()), route);
        }
        for entry in self.shared.iter() {
            let (address, lease) = entry.context("read shared addresses")?;
            state.shared.insert(address.into(), lease as LeaseId);
        }
        // INVARIANT: a slot names a backend of its own service. No other service is asked for: each takes long.
        let services: BTreeSet<ServiceId> = state.backends.values().map(|backend| backend.service).collect();
        state.slots = self.slots.read(&Vec::from_iter(services))?;
        Ok(state)
    }

    pub fn apply(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::PutRoute(prefix, route) => self.routes.insert(&route_key(prefix), route, 0).context("put a route"),
            Action::RemoveRoute(prefix) => self.routes.remove(&route_key(prefix)).context("remove a route"),
            Action::PutBackend(id, backend) => self
                .backends
                .set(u32::from(*id), backend, 0)
                .with_context(|| format!("put backend {id}")),
            Action::RemoveBackend(id) => self.remove_backend(*id),
            Action::PutSlots(tables) => self.slots.put(tables.iter().map(|(id, slots)| (*id, slots.as_slice()))),
            // No program tells an empty table from one that is not there.
            Action::RemoveSlots(services) => self.slots.put(services.iter().map(|id| (*id, [].as_slice()))),
            Action::PutShared(address, lease) => self
                .shared
                .insert(Ip::from(*address), u32::from(*lease), 0)
                .with_context(|| format!("put shared address {address}")),
            Action::RemoveShared(address) => self
                .shared
                .remove(&Ip::from(*address))
                .with_context(|| format!("remove shared address {address}")),
            Action::PutListen(listen, service) => self
                .services
                .insert(listen, service, 0)
                .with_context(|| format!("put listen {listen:?}")),
            Action::RemoveListen(listen) => self
                .services
                .remove(listen)
                .with_context(|| format!("remove listen {listen:?}")),
            Action::Attach(ifindex, attachment) => {
                let refusal = attach::attach(program(&mut self.object), &self.pins.folder, *ifindex, attachment)?;
                match refusal {
                    Some(refusal) => self.native_refused.insert(*ifindex, refusal),
                    None => self.native_refused.remove(ifindex),
                };
                self.kept.keep(self.link_pin(*ifindex, attachment))?;
                self.attached.insert(*ifindex, attachment.clone());
                Ok(())
            }
            Action::Rename(ifindex, attachment) => {
                let old = self.attached.get(ifindex).context("rename what is attached")?;
                attach::rename(&self.pins.folder, *ifindex, old, attachment)?;
                let (from, to) = (self.link_pin(*ifindex, old), self.link_pin(*ifindex, attachment));
                self.kept.rename(&from, to);
                self.attached.insert(*ifindex, attachment.clone());
                Ok(())
            }
            Action::Detach(ifindex) => self.detach(*ifindex),
        }
    }

    /// Also of what is left where somebody else took the program off.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        let attachment = self.attached.get(&ifindex).context("detach what is attached")?;
        attach::remove_pin(&self.pins.folder, ifindex, attachment)?;
        self.kept.forget(&self.link_pin(ifindex, attachment));
        self.attached.remove(&ifindex);
        Ok(())
    }

    /// Why drivers refused native XDP to this daemon, by interface.
    pub fn native_refused(&self) -> &BTreeMap<u32, String> {
        &self.native_refused
    }

    /// For a start that failed: takes away all pins it made, and with them its program.
    pub fn undo_start(self) -> Result<()> {
        self.pins.remove_if_fresh()
    }

    /// What the kernel knows of each program it loaded, by name.
    pub fn programs(&self) -> Result<BTreeMap<&str, ProgramInfo>> {
        let programs = self.object.programs();
        let info = |(name, program): (_, &Program)| Ok((name, program.info().context("ask about a program")?));
        programs.map(info).collect()
    }

    /// What the program tells of backends from now on.
    pub fn take_signs(&mut self) -> Result<Signs> {
        Signs::take(&mut self.object)
    }

    /// For test runs, and for its id.
    pub fn program(&mut self) -> &mut Xdp {
        program(&mut self.object)
    }

    pub fn verdicts(&self) -> Result<BTreeMap<Reason, u64>> {
        let counted = |reason: &Reason| Ok((*reason, self.verdicts_for(*reason)?));
        Reason::ALL.iter().map(counted).collect()
    }

    /// The sum over all CPUs.
    pub fn verdicts_for(&self, reason: Reason) -> Result<u64> {
        let values = self.verdicts.get(&(reason as u32), 0).context("read verdicts")?;
        Ok(values.iter().sum())
    }

    pub fn traffic(&self, id: BackendId) -> Result<Traffic> {
        let values = self.traffic.get(&u32::from(id), 0).context("read traffic")?;
        Ok(values.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            new_flows: sum.new_flows + cpu.new_flows,
            packets_to_backend: sum.packets_to_backend + cpu.packets_to_backend,
            bytes_to_backend: sum.bytes_to_backend + cpu.bytes_to_backend,
            packets_to_client: sum.packets_to_client + cpu.packets_to_client,
            bytes_to_client: sum.bytes_to_client + cpu.bytes_to_client,
            ports_exhausted: sum.ports_exhausted + cpu.ports_exhausted,
        }))
    }

    pub fn leases(&self) -> Arc<Leases> {
        self.leases.clone()
    }

    pub fn flows(&self) -> &FlowTables {
        &self.flows
    }

    /// Its counters go too: the id may come to name another.
    fn remove_backend(&mut self, id: BackendId) -> Result<()> {
        let (index, nobody) = (u32::from(id), Backend::NOBODY);
        self.backends
            .set(index, nobody, 0)
            .with_context(|| format!("remove backend {id}"))?;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow::Error::new(error).context(what))?;
        let zeroes = PerCpuValues::try_from(vec![Traffic::default(); cpus])?;
        self.traffic
            .set(index, zeroes, 0)
            .with_context(|| format!("clear the counters of backend {id}"))
    }
}

fn program(object: &mut Ebpf) -> &mut Xdp {
    program_named(object, PROGRAM)
}

fn program_named<'a>(object: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = object
        .program_mut(name)
        .expect("the object has the programs it is built from");
    program.try_into().expect("the program is one for XDP")
}

/// Where no other node begins that shares the source addresses: backends still have the connections of one that died, and
/// take new ones from the same ports for them.
fn begin_turns_anywhere(object: &Ebpf) -> Result<()> {
    let seed = u64::from_ne_bytes(random::seed()?);
    let map = object.map(PORT_TURNS);
    let map = map.with_context(|| format!("find map {PORT_TURNS} in the object"))?;
    let turns = MappedArray::<u64>::new(map_data(map)?)?;
    for endpoint in 0..turns.length() {
        if let Some(turn) = turns.get(endpoint) {
            // SAFETY: an aligned element of the mapping, which no program uses yet.
            unsafe { turn.write(mix(seed ^ endpoint as u64)) };
        }
    }
    Ok(())
}

fn route_key(prefix: &Prefix) -> Key<Ip> {
    let (address, length) = prefix.key();
    Key::new(length, address)
}

fn report_other_size(entries: u32, max_flows: u32) {
    if entries != flow_entries(max_flows) {
        tracing::warn!(
            max_flows,
            kept = entries / ENTRIES_PER_FLOW,
            "the pinned flow table has another size and is kept, with its flows; it changes when the pins are removed"
        );
    }
}

const SHAPES: &[Shape] = &[
    Shape::of::<Listen, Service>("SERVICES", Some(MAX_LISTENS)),
    Shape::of::<u32, u32>("SLOTS", Some(MAX_SERVICES)),
    Shape::of::<u32, Backend>("BACKENDS", Some(MAX_BACKENDS)),
    Shape::of::<Key<Ip>, Route>("ROUTES", Some(MAX_ROUTES)),
    Shape::of::<u32, FlowEntry<Be32>>("FLOWS", None),
    Shape::of::<u32, FlowEntry<Ip>>("FLOWS6", None),
    Shape::of::<u32, u64>("VERDICTS", Some(MAX_REASONS)),
    Shape::of::<u32, Traffic>("TRAFFIC", Some(MAX_BACKENDS)),
    Shape::of::<u32, u64>("ACTIVE", Some(MAX_BACKENDS)),
    Shape::of::<u32, Notes>(PORT_NOTES, None),
    Shape::of::<u32, u64>(PORT_TURNS, Some(MAX_PORT_TURNS)),
    Shape::of::<u32, u64>("LEASES", Some(MAX_LEASES)),
    Shape::of::<Ip, u32>("SHARED_ADDRESSES", Some(MAX_SHARED_ADDRESSES)),
];
