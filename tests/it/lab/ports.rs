//! Source ports towards one backend: all of them are used, used again at once, what is beyond is told; and no node begins
//! where another did.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use lb_tests::lab::*;

use super::ownership::{EVENTUALLY, config, has_role};
use super::*;

/// One address of ours has 36,280 ports towards a backend.
const MOST: usize = 36_280;
/// The client's ports: of these most are not the load balancer's to use, so others take their place.
const MANY: Range<u16> = 20_000..56_000;
const BEYOND: Range<u16> = 56_000..56_400;
const FURTHER: Range<u16> = 57_000..57_400;
const HANDS: usize = 4;
/// Connections, more than an address has ports.
const ROUND: u64 = 60_000;
const CLIENTS: [IpAddr; 4] = {
    const fn client(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 18, 0, number))
    }
    [client(2), client(3), client(4), client(5)]
};

#[test]
fn one_client_fills_an_address_and_then_the_next() {
    case(|lab| {
        Crowd::make_room()?;
        let net = Topology::new(lab, 1)?;
        net.node.ip("addr add 198.18.1.2/24 dev servers")?;
        let _nginx = Nginx::several(lab, &net.backends[0], backend_address(0), 3)?;
        let one = service_at("web", "tcp", "nat", LISTEN, &[backend_address(0)]) + "snat = [\"198.18.1.1\"]\n";
        let naru = Naru::run(lab, &net.node, &one)?;

        let mut crowd = Crowd::default();
        let failed = crowd.grow(&net.client, LISTEN, MANY, HANDS, SOON * 5)?;
        assert_eq!((crowd.size(), failed), (MANY.len(), 0));
        // Beyond: a SYN and its first repetition, each refused without an answer, and counted.
        let failed = crowd.grow(&net.client, LISTEN, BEYOND, BEYOND.len(), SOON * 3 / 2)?;
        let size = crowd.size();
        assert!(size <= MOST && failed > 0, "{size} connections at once");
        let told = number(&naru.status()?["drops"]["snat_ports_exhausted"]);
        assert!(told >= failed as u64, "{told} drops");
        assert!(naru.tell(&["status"])?.contains("snat_ports_exhausted"));

        let before = generation(&naru)?;
        naru.edit("[\"198.18.1.1\"]", "[\"198.18.1.1\", \"198.18.1.2\"]")?;
        applied_after(&naru, before)?;
        let failed = crowd.grow(&net.client, LISTEN, FURTHER, HANDS, SOON * 5)?;
        assert_eq!((crowd.size(), failed), (size + FURTHER.len(), 0));
        assert_clean(&crowd.ask_all(), crowd.size() as u64);
        Ok(())
    });
}

/// More than half as many connections as there are ports. Each client counts by a clock of its own, which the backend
/// would take for one gone back.
#[test]
fn ports_of_closed_connections_serve_others_without_delay() {
    case(|lab| {
        let again = repeated_syns(lab, &CLIENTS, 20_000)?;
        ensure!(again == 0, "{again} SYNs were sent again");
        Ok(())
    });
}

/// More connections than there are ports, so ports come again while the backend still remembers what they served before.
#[test]
fn ports_that_come_round_serve_others_without_delay() {
    case(|lab| {
        let again = repeated_syns(lab, &CLIENTS, ROUND)?;
        ensure!(again <= ROUND / 1000, "{again} SYNs were sent again");
        Ok(())
    });
}

#[test]
fn ports_that_come_round_serve_one_client_without_delay() {
    case(|lab| {
        let again = repeated_syns(lab, &CLIENTS[..1], ROUND)?;
        ensure!(again <= ROUND / 1000, "{again} SYNs were sent again");
        Ok(())
    });
}

/// In so many short connections, which the server closes first.
fn repeated_syns(lab: &Lab, clients: &'static [IpAddr], connections: u64) -> Result<u64> {
    let net = Topology::new(lab, 1)?;
    net.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    for client in &clients[1..] {
        net.client.ip(&format!("addr add {client}/24 dev eth0"))?;
    }
    let _nginx = Nginx::on_each(lab, &net)?;
    let _naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
    let load = Load::one_each(8).from(clients).requests(connections);
    let tally = load.start(&net.client, LISTEN)?.finish();
    assert_clean(&tally, connections);
    let told = net.client.stdout("nstat", &["-asz", "TcpExtTCPSynRetrans"])?;
    let again = told.split_whitespace().rev().nth(1).context("a count")?;
    let again = again.parse::<f64>().with_context(|| told.clone())? as u64;
    note(&format!("{again} SYNs of {connections} were sent again"));
    Ok(again)
}

/// Servers still have the connections of a node that is gone: new ones from the same ports would be taken for them, and
/// their clients try again after a moment, or after a second.
#[test]
fn a_pool_whose_node_died_is_connected_again_from_other_ports() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let _servers = net.serve(lab)?;
        let mut a = Naru::run(lab, &net.a, &config(&net, "a", 150))?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        let b = Naru::run(lab, &net.b, &config(&net, "b", 100))?;
        let mut crowd = Crowd::default();
        let mut grow = |ports| crowd.grow(&net.client, LISTEN, ports, 4, Duration::from_millis(800));
        let late = grow(20_000..20_200)?;
        ensure!(late == 0, "{late} of a pool were not connected");
        a.kill9()?;
        until(EVENTUALLY, || has_role(&b, "master"))?;
        let late = grow(21_000..21_200)?;
        let mut mistaken = 0;
        for backend in &net.backends {
            let told = backend.stdout("nstat", &["-asz", "TcpExtTCPSYNChallenge"])?;
            let count = told
                .lines()
                .find_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            mistaken += count.with_context(|| format!("a count: {told}"))?;
        }
        note(&format!(
            "{late} of 200 were not connected at once, {mistaken} taken for old ones"
        ));
        // One node may begin among the other's ports, by chance.
        ensure!(
            late == 0 && mistaken < 100,
            "{late} of 200 were late, {mistaken} taken for old ones"
        );
        Ok(())
    });
}
