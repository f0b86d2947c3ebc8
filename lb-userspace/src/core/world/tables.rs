//! The slot tables of the services, made again only where something they are made of has changed.

use std::collections::BTreeMap;

use lb_common::abi::{Algorithm, BackendId, ServiceId};

use crate::core::steering::{self, Share};

/// A slot table and what it was made of: making it costs more than anything else here.
#[derive(Debug)]
pub struct Table {
    algorithm: Algorithm,
    shares: Vec<Share>,
    pub slots: Vec<BackendId>,
}

pub fn update(
    tables: &mut BTreeMap<ServiceId, Table>,
    shares: BTreeMap<ServiceId, Vec<Share>>,
    algorithms: &BTreeMap<ServiceId, Algorithm>,
) {
    let algorithm = |service: &ServiceId| algorithms.get(service).copied().unwrap_or_default();
    tables.retain(|service, table| shares.get(service) == Some(&table.shares) && algorithm(service) == table.algorithm);
    for (service, shares) in shares {
        let algorithm = algorithm(&service);
        tables.entry(service).or_insert_with(|| Table {
            slots: steering::slots(algorithm, &shares),
            algorithm,
            shares,
        });
    }
}
