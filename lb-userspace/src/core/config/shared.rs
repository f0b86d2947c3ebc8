//! Which addresses and programs of a file belong to addresses that nodes share.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Config, Service};
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
