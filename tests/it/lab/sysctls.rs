//! Settings of the host that harm shared addresses: told, once, and again when it matters; never changed.

use lb_tests::lab::*;

use super::ownership::{EVENTUALLY, addresses, config, has_role};
use super::*;

fn warned(naru: &Naru, of: &str) -> Result<bool> {
    let status = naru.status()?;
    let warnings = status["warnings"].as_array().context("a list of warnings")?;
    Ok(warnings
        .iter()
        .filter_map(Value::as_str)
        .any(|warning| warning.contains(of)))
}

#[test]
fn what_harms_a_shared_address_is_told_when_it_matters() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let _servers = net.serve(lab)?;
        let (silent, hangs) = (
            "nobody learns by ARP where",
            "198.18.9.11/24 goes when 198.18.9.100/24 does",
        );
        net.a.sysctl("net/ipv4/conf/eth0/arp_ignore", "8")?;
        let text = config(&net, "a", 100).replace("\"198.18.0.100/24\"", "\"198.18.0.100/24\", \"198.18.9.100/24\"");
        let naru = Naru::run(lab, &net.a, &text)?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        ensure!(warned(&naru, silent)?);
        net.a.sysctl("net/ipv4/conf/eth0/arp_ignore", "0")?;
        ensure!(!warned(&naru, silent)?, "the status is as things are");

        // The node's own comes behind it, and its log says so unasked.
        until_true(SOON, "the second address", || {
            Ok(addresses(&net.a)?.contains("198.18.9.100"))
        })?;
        net.a.ip("addr add 198.18.9.11/24 dev eth0")?;
        until_true(SOON, hangs, || Ok(naru.log().contains(hangs)))?;
        net.a.sysctl("net/ipv4/conf/eth0/promote_secondaries", "1")?;
        ensure!(!warned(&naru, hangs)?);

        net.a.sysctl("net/ipv4/conf/eth0/arp_ignore", "8")?;
        naru.tell(&["failover"])?;
        until_true(SOON, "told once more", || Ok(naru.log().matches(silent).count() == 2))?;
        ensure!(addresses(&net.a)?.contains("198.18.9.11/24"), "promoted");
        Ok(())
    });
}
