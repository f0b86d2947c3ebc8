//! What is not ours passes, untouched and counted; what is cut short is never read past its end.

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Outcome, Protocol, packet};

use super::*;

#[test]
fn it_passes_untouched() {
    let Some(mut runner) = runner("it_passes_untouched") else {
        return;
    };
    let mut lying = packet(CLIENT, VIP).build();
    lying[17] = 200;
    let mut short_header = packet(CLIENT, VIP).build();
    short_header[14] = 0x44;
    let mut version_6 = packet(CLIENT, VIP).build();
    version_6[14] = 0x65;
    let mut header_beyond_packet = packet(CLIENT, VIP).build();
    header_beyond_packet[14] = 0x4f;
    let tcp = |flags| packet(CLIENT, VIP).flags(flags).build();
    let ether = |kind| packet(CLIENT, VIP).with(|p| p.ether_type = kind).build();
    let protocol =
        |number| packet(CLIENT, VIP).with(|p| (p.protocol, p.payload) = (Protocol::Other(number), vec![0; 40]));
    let cases = [
        (ether(0x0806), Reason::NotIpv4),
        (ether(0x86dd), Reason::NotIpv4),
        (ether(0x8100), Reason::NotIpv4),
        (protocol(1).build(), Reason::OtherProtocol),
        (protocol(112).build(), Reason::OtherProtocol),
        (protocol(2).build(), Reason::OtherProtocol),
        (
            packet(CLIENT, VIP).with(|p| p.fragment = 0x2000).build(),
            Reason::Fragment,
        ),
        (
            packet(CLIENT, VIP).with(|p| p.fragment = 0x00b9).build(),
            Reason::Fragment,
        ),
        (packet(CLIENT, "198.18.0.100:22").build(), Reason::NotOurs),
        (packet(CLIENT, "198.18.0.99:80").build(), Reason::NotOurs),
        (packet(CLIENT, "198.18.0.100:8").udp().build(), Reason::NotOurs),
        (packet(BACKEND, "198.18.1.1:3333").build(), Reason::NotOurs),
        (tcp(ACK), Reason::UnknownFlow),
        (tcp(SYN | ACK), Reason::UnknownFlow),
        (tcp(SYN | FIN), Reason::UnknownFlow),
        (tcp(SYN | RST), Reason::UnknownFlow),
        (tcp(RST), Reason::UnknownFlow),
        (tcp(0), Reason::UnknownFlow),
        (tcp(0x3f), Reason::UnknownFlow),
        (lying, Reason::Malformed),
        (short_header, Reason::Malformed),
        (version_6, Reason::Malformed),
        (header_beyond_packet, Reason::Malformed),
    ];
    for (frame, reason) in cases {
        let expected = Outcome {
            action: Action::Pass,
            reason: Some(reason),
            frame: frame.clone(),
        };
        assert_eq!(runner.send(&frame).unwrap(), expected, "{frame:02x?}");
    }
    assert_eq!(runner.kernel.flows().iter().count(), 0, "and no flow begins");
}

#[test]
fn a_frame_cut_anywhere_is_handled_as_the_host_would() {
    let Some(mut runner) = runner("a_frame_cut_anywhere_is_handled_as_the_host_would") else {
        return;
    };
    let whole = [
        packet(CLIENT, VIP).with(|p| p.payload = vec![7; 20]),
        packet(CLIENT, VIP).with(|p| p.options = vec![1; 40]),
        packet(CLIENT, VIP).udp().with(|p| p.payload = vec![7; 20]),
    ];
    for from in whole {
        let frame = from.build();
        // The kernel runs no test on less than an Ethernet header; `send` compares with the model.
        for length in 14..frame.len() {
            let outcome = runner.send(&frame[..length]).unwrap();
            assert_eq!(outcome.action, Action::Pass, "{length} bytes of {from:?}");
        }
    }
}
