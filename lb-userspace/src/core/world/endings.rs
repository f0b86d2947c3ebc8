//! The world's part in the end of flows: by which terms those of each backend go on.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_common::abi::BackendId;

use super::World;
use crate::core::condition::Condition;
use crate::core::endings::Terms;
use crate::core::members::Member;

impl World {
    /// For the flows of every member. They change with time alone, so ask now and then.
    pub fn terms(&self, now: Instant) -> BTreeMap<BackendId, Terms> {
        let members = self.members.backends.iter();
        let terms = members.filter_map(|(id, member)| {
            let condition = self.conditions.get(id)?;
            Some((*id, Terms::of(member, condition, self.heir(member), now)))
        });
        terms.collect()
    }

    /// Of one that its name has left: who has its address now, in the same service.
    fn heir(&self, member: &Member) -> Option<&Condition> {
        member.leaving.filter(|leaving| leaving.renounced)?;
        let mut others = self.members.backends.iter();
        let heir = others.find(|(_, other)| {
            other.leaving.is_none() && other.service == member.service && other.address == member.address
        });
        self.conditions.get(heir?.0)
    }
}
