//! Gives services and backends their ids and remembers who has which, for as long as a flow may name them.
//!
//! Ids are the lowest free ones from 1 up. They survive reloads, and restarts by the fingerprints in the pinned maps.
//! A backend that is no longer in the file, or no address of its name any more, is leaving: it keeps its id until no flow
//! of it is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::SystemTime;

use lb_common::abi::{BackendId, MAX_BACKENDS, MAX_LISTENS, MAX_SERVICES, ServiceId};
use thiserror::Error;

use super::config::{Backend, Config, Service};
use super::dns::{Names, Rank};
use super::endings::Rules;
use super::fingerprint;
use super::kernel::KernelState;

#[derive(Debug, Default)]
pub struct Members {
    /// The services of the file, by name.
    pub services: BTreeMap<String, ServiceId>,
    pub backends: BTreeMap<BackendId, Member>,
    /// Services that the kernel may still know though the file does not, by fingerprint: their ids wait until they
    /// are gone there.
    former: BTreeMap<u64, ServiceId>,
}

/// A backend that has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub fingerprint: u64,
    pub service: ServiceId,
    pub address: SocketAddr,
    /// None: found in the pinned maps, and no file seen since names it.
    pub name: Option<Name>,
    /// In the file; of a name, that of all it leads to together.
    pub weight: u16,
    pub part: Part,
    /// Of its service in the last file that named it.
    pub rules: Option<Rules>,
    pub leaving: Option<Leaving>,
}

/// Of the weight of a name that leads to several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Those of a higher tier serve while none of a lower one is up; each tier has the whole weight.
    pub tier: u16,
    /// How many there are beside it in its tier.
    pub others: u16,
    /// By SRV record.
    pub weight: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    pub since: SystemTime,
    /// The file is as it was; its name has other addresses now.
    pub renounced: bool,
    /// Whether its flows have been counted once since. That count may have begun before.
    counted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub service: String,
    pub backend: String,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the kernel's tables have room for {limit} {what}, and this is more (those still draining count too)")]
pub struct TooMany {
    what: &'static str,
    limit: u32,
}

impl Leaving {
    const fn new(since: SystemTime, renounced: bool) -> Self {
        Self {
            since,
            renounced,
            counted: false,
        }
    }

    pub const fn why(&self) -> &'static str {
        match self.renounced {
            true => "no longer an address of its name",
            false => "removed from the configuration",
        }
    }
}

impl Members {
    /// Everything starts as leaving; the first file takes its own back.
    pub fn adopt(actual: &KernelState, now: SystemTime) -> Self {
        let backends = actual.backends.iter().map(|(&id, backend)| {
            let member = Member {
                fingerprint: backend.fingerprint,
                service: backend.service,
                address: SocketAddr::new(backend.address.into(), backend.port.get()),
                name: None,
                weight: 0,
                part: Part::default(),
                rules: None,
                leaving: Some(Leaving::new(now, false)),
            };
            (id, member)
        });
        let former = actual.listens.values().map(|service| (service.fingerprint, service.id));
        Self {
            services: BTreeMap::new(),
            backends: backends.collect(),
            former: former.collect(),
        }
    }

    /// Afterwards all of the file's services and backends have ids, each address of a name for itself; or, refused, nothing
    /// has changed.
    pub fn enlist(&mut self, config: &Config, names: &Names, now: SystemTime) -> Result<(), TooMany> {
        if config
            .services
            .values()
            .map(|service| service.listens.len())
            .sum::<usize>()
            > MAX_LISTENS as usize
        {
            return Err(TooMany {
                what: "listens",
                limit: MAX_LISTENS,
            });
        }
        let services = self.service_ids(config, names)?;
        let mut backends = self.in_file(config, names, &services)?;
        for (id, mut member) in std::mem::take(&mut self.backends) {
            let file = member.name.as_ref().and_then(|name| config.backend(name));
            let renounced = file.is_some_and(|backend| backend.place.address().is_none());
            member.leaving.get_or_insert(Leaving::new(now, renounced));
            backends.entry(id).or_insert(member);
        }
        let former = self.services.iter().map(|(name, &id)| (fingerprint::service(name), id));
        self.former.extend(former);
        (self.services, self.backends) = (services, backends);
        Ok(())
    }

    /// The kernel holds what is desired, and nothing else.
    pub fn settle(&mut self) {
        self.former.clear();
    }

    /// Drops those that are leaving and have no flow left.
    pub fn forget_idle(&mut self, flows: &BTreeMap<BackendId, u64>) {
        self.backends.retain(|id, member| {
            let Some(leaving) = &mut member.leaving else {
                return true;
            };
            let counted = std::mem::replace(&mut leaving.counted, true);
            !counted || flows.get(id).is_some_and(|&flows| flows > 0)
        });
    }

    fn service_ids(&self, config: &Config, names: &Names) -> Result<BTreeMap<String, ServiceId>, TooMany> {
        // A service that was away, and is back before its last flow ended, finds its id with its backends.
        let of_backend: BTreeMap<u64, ServiceId> = self.backends.values().map(|m| (m.fingerprint, m.service)).collect();
        let used = self
            .services
            .values()
            .chain(self.former.values())
            .chain(of_backend.values());
        let used: BTreeSet<ServiceId> = used.copied().collect();
        let mut free = (1..MAX_SERVICES as ServiceId).filter(|id| !used.contains(id));
        let mut ids = BTreeMap::new();
        for (name, service) in &config.services {
            let fingerprints = service.backends.iter().flat_map(|backend| {
                let endpoints = endpoints(service, backend, names).into_iter();
                endpoints.map(|(address, _)| fingerprint::backend(name, &backend.name, address, service.protocol))
            });
            let known = self
                .services
                .get(name)
                .or_else(|| self.former.get(&fingerprint::service(name)));
            let known = known.or_else(|| fingerprints.into_iter().find_map(|f| of_backend.get(&f)));
            let id = known.copied().or_else(|| free.next());
            ids.insert(
                name.clone(),
                id.ok_or(TooMany {
                    what: "services",
                    limit: MAX_SERVICES - 1,
                })?,
            );
        }
        Ok(ids)
    }

    fn in_file(
        &self,
        config: &Config,
        names: &Names,
        services: &BTreeMap<String, ServiceId>,
    ) -> Result<BTreeMap<BackendId, Member>, TooMany> {
        let known: BTreeMap<u64, BackendId> = self.backends.iter().map(|(&id, m)| (m.fingerprint, id)).collect();
        let mut free = (1..MAX_BACKENDS as BackendId).filter(|id| !self.backends.contains_key(id));
        let mut members = BTreeMap::new();
        let backends = config.services.iter();
        let backends = backends.flat_map(|(name, service)| service.backends.iter().map(move |b| (name, service, b)));
        for (name, service, backend) in backends {
            let endpoints = endpoints(service, backend, names);
            for (&(address, _), part) in endpoints.iter().zip(parts(&endpoints)) {
                let fingerprint = fingerprint::backend(name, &backend.name, address, service.protocol);
                let id = known.get(&fingerprint).copied().or_else(|| free.next());
                let member = Member {
                    fingerprint,
                    service: services[name],
                    address,
                    name: Some(Name {
                        service: name.clone(),
                        backend: backend.name.clone(),
                    }),
                    weight: backend.weight,
                    part,
                    rules: Some(Rules::of(service)),
                    leaving: None,
                };
                members.insert(
                    id.ok_or(TooMany {
                        what: "backends",
                        limit: MAX_BACKENDS - 1,
                    })?,
                    member,
                );
            }
        }
        Ok(members)
    }
}

/// Of one backend of the file, as far as they are known.
fn endpoints(service: &Service, backend: &Backend, names: &Names) -> Vec<(SocketAddr, Rank)> {
    if let Some(address) = backend.place.address() {
        return vec![(address, Rank::default())];
    }
    let question = service.question(backend);
    question.map_or_else(Vec::new, |question| names.endpoints(&question, backend.place.port()))
}

/// Priorities are tiers in their order, whatever their numbers.
fn parts(endpoints: &[(SocketAddr, Rank)]) -> Vec<Part> {
    let mut by_priority: BTreeMap<u16, u16> = BTreeMap::new();
    for (_, rank) in endpoints {
        *by_priority.entry(rank.priority).or_default() += 1;
    }
    let part = |(_, rank): &(SocketAddr, Rank)| Part {
        tier: by_priority.range(..rank.priority).fold(0, |tier, _| tier + 1),
        others: by_priority[&rank.priority] - 1,
        weight: rank.weight,
    };
    endpoints.iter().map(part).collect()
}
