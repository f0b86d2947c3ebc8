//! The programs that a frame may pass through, one after the other.
//!
//! Several, because each has 512 bytes of stack and a bounded walk by the verifier. Packets of most known
//! flows never leave the first one.

#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Fragments, ICMP, extension headers.
    UnusualIpv4 = 0,
    UnusualIpv6 = 1,
    /// The first packet of a flow.
    OpenIpv4 = 2,
    OpenIpv6 = 3,
    /// A packet that Naru answers itself.
    AnswerIpv4 = 4,
    AnswerIpv6 = 5,
    /// A packet whose TCP timestamps matter.
    ClockIpv4 = 6,
    ClockIpv6 = 7,
}

impl Stage {
    pub const ALL: [Self; 8] = [
        Self::UnusualIpv4,
        Self::UnusualIpv6,
        Self::OpenIpv4,
        Self::OpenIpv6,
        Self::AnswerIpv4,
        Self::AnswerIpv6,
        Self::ClockIpv4,
        Self::ClockIpv6,
    ];

    /// Of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnusualIpv4 => "naru_unusual_ipv4",
            Self::UnusualIpv6 => "naru_unusual_ipv6",
            Self::OpenIpv4 => "naru_open_ipv4",
            Self::OpenIpv6 => "naru_open_ipv6",
            Self::AnswerIpv4 => "naru_answer_ipv4",
            Self::AnswerIpv6 => "naru_answer_ipv6",
            Self::ClockIpv4 => "naru_clock_ipv4",
            Self::ClockIpv6 => "naru_clock_ipv6",
        }
    }
}
