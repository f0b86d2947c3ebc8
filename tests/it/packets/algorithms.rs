//! Which backend a new flow gets, by the algorithm of its service, in every mode.

use super::*;

cases! {
    each_mode {
        maglev_spreads_flows_and_keeps_to_the_hash,
        round_robin_takes_one_slot_after_the_other,
        least_connections_go_by_flows_for_each_unit_of_weight,
        source_keeps_a_client_with_its_backend,
    }
}

/// Opens a flow; tells how many each backend has then.
fn open(net: &mut Net, kind: &Kind, client: usize, port: usize) -> BTreeMap<u8, usize> {
    let from = net.packet(&format!("198.18.0.{}:{}", 2 + client, 2000 + port), net.listen(kind));
    assert_eq!(net.send(&from.build()).reason, None);
    net.shares()
}

fn maglev_spreads_flows_and_keeps_to_the_hash(net: &mut Net) {
    let all = |net: &mut Net| (0..60).map(|n| open(net, &MAGLEV, n % 3, n)).collect::<Vec<_>>();
    let first = all(net);
    assert!(first[59].values().all(|flows| *flows >= 15), "{:?}", first[59]);
    net.reset();
    assert_eq!(all(net), first);
}

/// One slot of three is the first backend's.
fn round_robin_takes_one_slot_after_the_other(net: &mut Net) {
    for round in 1..=4 {
        for flow in 0..3 {
            open(net, &ROUND_ROBIN, round, flow);
        }
        assert_eq!(net.shares(), [(23, round), (24, 2 * round)].into());
    }
}

/// The second backend is twice as strong.
fn least_connections_go_by_flows_for_each_unit_of_weight(net: &mut Net) {
    for round in 1..=4 {
        for flow in 0..3 {
            open(net, &LEAST_CONNECTIONS, round, flow);
        }
        assert_eq!(net.shares(), [(25, round), (26, 2 * round)].into());
    }
    // Who leaves makes room.
    for flow in 0..3 {
        let gone = net.packet(&format!("198.18.0.3:{}", 2000 + flow), net.listen(&LEAST_CONNECTIONS));
        net.runner.end_flow(&gone);
    }
    for flow in 3..6 {
        open(net, &LEAST_CONNECTIONS, 1, flow);
    }
    assert_eq!(net.shares(), [(25, 4), (26, 8)].into());
}

fn source_keeps_a_client_with_its_backend(net: &mut Net) {
    let mut served = BTreeMap::<_, u32>::new();
    for client in 0..20 {
        net.reset();
        (0..4).for_each(|port| drop(open(net, &SOURCE, client, port)));
        let shares = net.shares();
        assert_eq!(shares.len(), 1, "{shares:?}");
        *served.entry(shares.into_keys().next()).or_default() += 1;
    }
    assert_eq!(served.len(), 2, "{served:?}");
}
