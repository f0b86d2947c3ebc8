//! Which addresses are to be on which interface for which instance, and what is missing or too much there.
//!
//! Only what carries our mark is ever too much.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::settings::{Address, Key};

#[derive(Debug, Default)]
pub struct Holdings(BTreeMap<Key, Holding>);

#[derive(Debug)]
struct Holding {
    /// The interface they are on.
    home: Arc<str>,
    addresses: BTreeSet<Address>,
}

impl Holdings {
    pub fn own(&mut self, instance: &Key, home: &Arc<str>, addresses: &[Address]) {
        let holding = self.0.entry(instance.clone()).or_insert_with(|| Holding {
            home: home.clone(),
            addresses: BTreeSet::new(),
        });
        holding.addresses.extend(addresses);
    }

    pub fn disown(&mut self, instance: &Key, addresses: &[Address]) {
        if let Some(holding) = self.0.get_mut(instance) {
            holding.addresses.retain(|own| !addresses.contains(own));
            if holding.addresses.is_empty() {
                self.0.remove(instance);
            }
        }
    }

    /// Where the instance has addresses, if it has any.
    pub fn home(&self, instance: &Key) -> Option<&Arc<str>> {
        self.0.get(instance).map(|holding| &holding.home)
    }

    /// Of what is to be on the interface, what is not, by instance.
    pub fn missing(&self, interface: &str, there: &[Address]) -> Vec<(Key, Vec<Address>)> {
        let missing = self.on(interface).map(|(instance, owned)| {
            let missing = owned.iter().filter(|own| !there.contains(own));
            (instance.clone(), missing.copied().collect::<Vec<_>>())
        });
        missing.filter(|(_, missing)| !missing.is_empty()).collect()
    }

    /// Of what is there with our mark, what no instance has there.
    pub fn stray(&self, interface: &str, there: &[Address]) -> Vec<Address> {
        let is_owned = |own: &Address| self.on(interface).any(|(_, owned)| owned.contains(own));
        there.iter().filter(|own| !is_owned(own)).copied().collect()
    }

    /// What the kernel takes off together with these, and is to be there all the same.
    pub fn beside(&self, interface: &str, removed: &[Address]) -> Vec<Address> {
        let goes_too = |own: &&Address| removed.iter().any(|gone| own.is_beside(gone));
        let owned = self.on(interface).flat_map(|(_, owned)| owned);
        owned.filter(goes_too).copied().collect()
    }

    fn on(&self, interface: &str) -> impl Iterator<Item = (&Key, &BTreeSet<Address>)> {
        let here = self.0.iter().filter(move |(_, holding)| *holding.home == *interface);
        here.map(|(instance, holding)| (instance, &holding.addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::dns::Family;

    fn address(last: u8) -> Address {
        Address {
            address: [198, 18, 0, last].into(),
            length: 32,
        }
    }

    fn instance(id: u8) -> Key {
        Key {
            interface: "eth0".into(),
            family: Family::Ipv4,
            id,
        }
    }

    #[test]
    fn what_is_owned_is_missed_and_what_is_not_is_stray() {
        let mut holdings = Holdings::default();
        holdings.own(&instance(1), &"eth0".into(), &[address(1), address(2)]);
        holdings.own(&instance(2), &"eth0".into(), &[address(3)]);
        let there = [address(2), address(4)];
        let missing = vec![(instance(1), vec![address(1)]), (instance(2), vec![address(3)])];
        assert_eq!(holdings.missing("eth0", &there), missing);
        assert_eq!(holdings.stray("eth0", &there), [address(4)]);
        assert_eq!(holdings.missing("eth1", &there), []);
        assert_eq!(holdings.stray("eth1", &there), there);

        holdings.disown(&instance(1), &[address(1)]);
        assert_eq!(holdings.missing("eth0", &[address(2), address(3)]), []);
        holdings.disown(&instance(1), &[address(2)]);
        assert_eq!(holdings.stray("eth0", &there), there);
    }

    #[test]
    fn addresses_are_where_they_were_put() {
        let mut holdings = Holdings::default();
        holdings.own(&instance(1), &"naru4-1-2".into(), &[address(1)]);
        assert_eq!(holdings.home(&instance(1)).map(|home| &**home), Some("naru4-1-2"));
        assert_eq!(holdings.stray("naru4-1-2", &[address(1)]), []);
        assert_eq!(holdings.stray("eth0", &[address(1)]), [address(1)]);
        assert_eq!(holdings.missing("eth0", &[]), []);
        holdings.disown(&instance(1), &[address(1)]);
        assert_eq!(holdings.home(&instance(1)), None);
    }

    #[test]
    fn what_is_of_a_removed_address_s_block_goes_with_it() {
        let of = |text: &str, length| Address {
            address: text.parse().expect("an address"),
            length,
        };
        let mut holdings = Holdings::default();
        let (near, far) = (of("198.18.0.2", 24), of("198.18.1.2", 24));
        let (alone, ipv6) = (of("198.18.0.3", 32), of("2001:db8::2", 64));
        holdings.own(&instance(1), &"eth0".into(), &[near, far, alone, ipv6]);
        let removed = [of("198.18.0.1", 24), of("198.18.0.4", 32), of("2001:db8::1", 64)];
        assert_eq!(holdings.beside("eth0", &removed), [near]);
        assert_eq!(holdings.beside("eth1", &removed), []);
        let all = [of("0.0.0.1", 0)];
        assert_eq!(holdings.beside("eth0", &all), []);
        assert!(of("198.18.0.1", 0).is_beside(&all[0]));
    }
}
