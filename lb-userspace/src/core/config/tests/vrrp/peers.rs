//! What makes other nodes deaf to an instance, or take it for another than it is.

use super::{on, with};

#[test]
fn a_peer_that_could_not_be_heard_is_refused() {
    let cases = [
        (
            "[\"198.18.0.2/24\"]\npeers = [\"198.18.0.3\", \"198.18.1.3\"]",
            "8:24 vrrp \"a\": 198.18.1.3 is not on the link: adverts that cross a router are not heard; give the peer's \
             address on this link; where that is of another network than the addresses, give these with /32",
        ),
        (
            "[\"fe80::1\"]\npeers = [\"fe80::2\", \"2001:db8::2\"]",
            "8:21 vrrp \"a\": 2001:db8::2 would not be heard: in IPv6 adverts come from link-local addresses; give the one \
             of fe80::/64 that the peer has there",
        ),
    ];
    for (addresses, expected) in cases {
        assert_eq!(with(&format!("addresses = {addresses}")), [expected], "for {addresses}");
    }
    let far = with("addresses = [\"198.18.0.2/32\"]\npeers = [\"198.18.1.3\"]");
    assert_eq!(far, [""; 0], "an address alone says nothing about the link");
}

#[test]
fn a_priority_below_those_that_serve() {
    assert_eq!(on("priority = 32"), [""; 0]);
    assert_eq!(
        on("priority = 31"),
        [
            "8:12 warning: vrrp \"a\": others take a node of this priority for one that serves nobody, and preempt it; give \
             32 or more"
        ]
    );
}
