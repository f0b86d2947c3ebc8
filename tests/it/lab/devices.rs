//! `xdp = "auto"` means that frames arrive, whatever the node's interfaces are. The table is in docs/data-path.md.

use std::time::Instant;

use lb_tests::lab::*;

use super::*;

const SMALL: u16 = 80;
const LARGE: u16 = 81;
/// Each way; at the pace of retransmissions it would take minutes.
const MANY_BYTES: u64 = 32 << 20;
const TRANSFER_WITHIN: Duration = Duration::from_secs(15);

const AUTO: &str = "[node]\nxdp = \"auto\"\n";
const NATIVE: &str = "[node]\nxdp = \"native\"\n";

#[test]
fn a_veth_as_containers_have_it() {
    case(|lab| serves(lab, &Containers::on_one_bridge(lab, NodeDevice::Veth)?, "eth0", "veth"));
}

#[test]
fn a_bridge() {
    case(|lab| {
        serves(
            lab,
            &Containers::on_one_bridge(lab, NodeDevice::Bridge)?,
            "br0",
            "bridge",
        )
    });
}

#[test]
fn a_macvlan() {
    case(|lab| {
        serves(
            lab,
            &Containers::on_one_bridge(lab, NodeDevice::Macvlan)?,
            "mv0",
            "macvlan",
        )
    });
}

#[test]
fn a_tap() {
    case(|lab| serves(lab, &Containers::on_one_bridge(lab, NodeDevice::Tap)?, "tap0", "tun"));
}

/// Small requests are served; what is longer than the MTU is lost, which `status` says.
#[test]
fn two_veths_are_warned_of() {
    case(|lab| {
        let net = Containers::on_two_bridges(lab, NodeDevice::Veth)?;
        let _bulk = net.serve_bulk()?;
        let naru = Naru::run(lab, &net.node, &(net.service("bulk", LARGE) + AUTO))?;
        for _ in 0..7 {
            net.transfer(1, LARGE)?;
        }
        let status = naru.status()?;
        assert!(
            status["warnings"].to_string().contains("longer than the MTU"),
            "{status}"
        );
        assert_chose_generic(&status, "eth1", "veth")
    });
}

/// Its peer has a program, and its neighbours complete their checksums.
#[test]
fn a_veth_whose_peer_has_a_program() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let config = net.service("web", "tcp", 80, &[1]) + AUTO;
        let naru = Naru::run(lab, &net.node, &config)?;
        let tally = Load::one_each(4).requests(500).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 500);
        assert_unbroken(&Transfers::start(&net.client, LISTEN, 8)?.finish(), 8);
        let status = naru.status()?;
        // Whether segments are longer than the MTU is the peers' affair, which cannot be seen.
        assert!(
            status["warnings"].to_string().contains("longer than the MTU"),
            "{status}"
        );
        assert_chose_generic(&status, "clients", "veth")
    });
}

#[test]
fn native_on_a_veth_that_drops_its_frames_is_warned_of() {
    case(|lab| {
        let net = Containers::on_one_bridge(lab, NodeDevice::Veth)?;
        let _nginx = Nginx::start(lab, &net.server, &[net.server_address()])?;
        let naru = Naru::run(lab, &net.node, &(net.service("web", SMALL) + NATIVE))?;
        assert_eq!(
            net.answered(1, SMALL)?,
            0,
            "the kernel has changed: revise `core::xdp_mode`"
        );
        until(Duration::from_secs(5), || {
            let status = naru.status()?;
            let eth0 = named(&status["interfaces"], "eth0")?;
            ensure!(eth0["xdp"] == "native" && number(&eth0["lost_frames"]) > 0, "{eth0}");
            ensure!(eth0["reason"] == "set by [node] xdp", "{eth0}");
            let warnings = status["warnings"].to_string();
            ensure!(warnings.contains("eth0: its peer has no XDP program"), "{warnings}");
            ensure!(warnings.contains("frames that native XDP sent were lost"), "{warnings}");
            Ok(())
        })?;
        let log = naru.log();
        assert!(log.contains("frames that native XDP sent were lost"), "{log}");
        Ok(())
    });
}

/// Small requests and large transfers by what `auto` chose.
fn serves(lab: &Lab, net: &Containers, interface: &str, device: &str) -> Result<()> {
    let _bulk = net.serve_bulk()?;
    let naru = Naru::run(lab, &net.node, &(net.service("bulk", LARGE) + AUTO))?;
    let status = naru.status()?;
    assert!(!status["warnings"].to_string().contains("XDP"), "{status}");
    assert_chose_generic(&status, interface, device)?;
    for _ in 0..7 {
        net.transfer(1, LARGE)?;
    }
    let begun = Instant::now();
    net.transfer(MANY_BYTES, LARGE)?;
    let took = begun.elapsed();
    assert!(took < TRANSFER_WITHIN, "{MANY_BYTES} bytes each way took {took:?}");
    Ok(())
}

fn assert_chose_generic(status: &Value, interface: &str, device: &str) -> Result<()> {
    let found = named(&status["interfaces"], interface)?;
    assert_eq!(
        (&found["xdp"], &found["device"]),
        (&"generic".into(), &device.into()),
        "{found}"
    );
    let word = if device == "tun" { "tap" } else { device };
    let reason = found["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(word), "{reason}");
    Ok(())
}
