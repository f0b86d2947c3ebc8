//! What the program does with a packet, and why: every reason but plain forwarding has a counter of its own.
//!
//! Forwarded packets are counted by backend in `TRAFFIC`.

/// Index into `VERDICTS` and name of the counter: add at the end, never renumber within a layout version.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As `naru status` and metrics call it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    /// Passed: another EtherType (ARP, LLDP …).
    NotIp = "not_ip",
    /// Passed: cut short or lying about its lengths; the host's stack knows what to do with it.
    Malformed = "malformed",
    /// Passed: an IP protocol other than TCP and UDP, and no ICMP error (VRRP, echo, ND …).
    OtherProtocol = "other_protocol",
    /// Passed: a fragment of a packet whose first one was not seen.
    Fragment = "fragment",
    /// Passed: an ICMP error about a packet that belongs to no flow of ours.
    IcmpUnknown = "icmp_unknown",
    /// Passed: no flow of ours and no service listens there.
    NotOurs = "not_ours",
    /// Passed: for a service, but neither part of a known flow nor a clean SYN; the host answers it with RST.
    UnknownFlow = "unknown_flow",
    /// Passed: the program that would have gone on is not loaded.
    StageMissing = "stage_missing",
    /// Dropped: its time to live ends here.
    TtlExpired = "ttl_expired",
    /// Dropped: a source address that cannot be a client (ours, multicast, broadcast, loopback, zero).
    Martian = "martian",
    /// Refused: the service has no backend that may take new flows.
    NoBackend = "no_backend",
    /// Answered, or dropped: larger than what the way to the backend takes.
    TooBig = "too_big",
    /// Dropped: no neighbour known (yet) towards the backend or back to the client.
    NextHopUnknown = "next_hop_unknown",
    /// Dropped: no free source port towards the backend was found.
    SnatPortsExhausted = "snat_ports_exhausted",
    /// Dropped: no room for a new flow.
    FlowTableFull = "flow_table_full",
    /// Dropped: another CPU opened the same flow at the same moment; the sender's retry finds it.
    FlowRace = "flow_race",
    /// Answered by RST, or dropped if it is one itself: of a connection whose backend is lost.
    FlowReset = "flow_reset",
    /// Passed: for an address that a peer has at present.
    NotMaster = "not_master",
    /// Dropped: for a shared address of this node whose lease has ended; the daemon is dead, stopped or late.
    Fenced = "fenced",
}

/// Places in `VERDICTS`: room for reasons to come, which then need no new layout.
pub const MAX_REASONS: u32 = 64;
const _: () = assert!(Reason::ALL.len() <= MAX_REASONS as usize);

impl Reason {
    /// Passed to the host's stack, else dropped.
    #[inline(always)]
    pub const fn passes(self) -> bool {
        (self as u32) <= (Self::StageMissing as u32) || matches!(self, Self::NotMaster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_end_where_drops_begin() {
        assert!(Reason::StageMissing.passes());
        assert!(!Reason::TtlExpired.passes());
        assert!(Reason::NotMaster.passes());
        assert!(!Reason::Fenced.passes());
    }
}
