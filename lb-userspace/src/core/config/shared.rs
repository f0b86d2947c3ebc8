//! Which addresses and programs of a file belong to addresses that nodes share.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Config, Service, Vrrp};
use crate::core::vrrp::settings::Settings;
use crate::core::vrrp::track::{Program, Watched};

impl Config {
    /// Those that say whether this node is fit to have the addresses it shares.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        let tracks = self.vrrp.values().flat_map(|instance| &instance.track);
        tracks.filter_map(|track| match &track.what {
            Watched::Program(program) => Some(program),
            Watched::Service(_) | Watched::Interface(_) => None,
        })
    }

    /// The services by which a node is fit to be master of an instance: those that have backends and listen on its
    /// addresses, or on those of its group. None where the group says itself which services it tracks.
    pub fn carried_by(&self, instance: &Settings) -> impl Iterator<Item = &str> {
        let is_of_it = |other: &Settings| match &instance.group {
            Some(group) => other.group.as_ref() == Some(group),
            None => other.name == instance.name,
        };
        let unit: Vec<&Vrrp> = self.vrrp.values().filter(|one| is_of_it(&one.settings)).collect();
        let tracks = |one: &&Vrrp| one.track.iter().any(|track| matches!(track.what, Watched::Service(_)));
        let is_explicit = unit.iter().any(tracks);
        let addresses = unit.iter().flat_map(|one| &one.settings.addresses);
        let addresses: BTreeSet<IpAddr> = addresses.map(|own| own.address).collect();
        let is_carried = move |service: &Service| {
            let listens = service.listens.iter().any(|listen| addresses.contains(&listen.ip()));
            !is_explicit && listens && service.backends.iter().any(|backend| backend.weight > 0)
        };
        let services = self.services.iter().filter(move |(_, service)| is_carried(service));
        services.map(|(name, _)| name.as_str())
    }

    /// Its listen addresses, where they are shared and always on one node together.
    pub fn shared_listens(&self, service: &Service) -> Option<BTreeSet<IpAddr>> {
        let listens: BTreeSet<IpAddr> = service.listens.iter().map(|listen| listen.ip()).collect();
        let unit = |address: &IpAddr| {
            let settings = self.sharing(*address)?;
            // A section without a group is one of itself.
            Some(settings.group.as_deref().ok_or(&*settings.name))
        };
        let units: Option<BTreeSet<_>> = listens.iter().map(unit).collect();
        units.filter(|units| units.len() == 1).map(|_| listens)
    }

    /// Whether it may be a peer's instead.
    pub fn shares(&self, address: IpAddr) -> bool {
        self.home_of(address).is_some()
    }

    /// The interface of an address that may be a peer's instead.
    pub fn home_of(&self, address: IpAddr) -> Option<&str> {
        self.sharing(address).map(|one| &*one.interface)
    }

    fn sharing(&self, address: IpAddr) -> Option<&Settings> {
        let mut instances = self.vrrp.values().map(|instance| &instance.settings);
        instances.find(|one| one.addresses.iter().any(|own| own.address == address))
    }
}
