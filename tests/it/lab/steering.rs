//! How new flows are shared out, where that depends on the flows that there are.

use lb_tests::lab::*;

use super::*;

#[test]
fn least_connections_fills_up_where_connections_have_ended() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let service = net.service("web", "tcp", 80, &[1, 1, 2]);
        let text = service.replacen("protocol", "algorithm = \"least-connections\"\nprotocol", 1);
        let _naru = Naru::run(lab, &net.node, &text)?;

        let mut open = Vec::new();
        connect(&net, 40, &mut open)?;
        assert_eq!(shares(&open), [10, 10, 20]);

        // In order, and by a reset: both count as ended at once.
        open.retain(|(backend, _)| backend != "b1");
        let ended = open
            .iter()
            .position(|(backend, _)| backend == "b3")
            .context("one of b3")?;
        open.swap_remove(ended).1.reset()?;
        assert_eq!(shares(&open), [0, 10, 19]);
        connect(&net, 11, &mut open)?;
        assert_eq!(shares(&open), [10, 10, 20]);
        Ok(())
    });
}

/// One after the other, so that each finds the one before counted.
fn connect(net: &Topology, count: usize, open: &mut Vec<(String, Connection)>) -> Result<()> {
    net.client.inside(|| {
        for _ in 0..count {
            let mut connection = Connection::open(LISTEN)?;
            open.push((connection.who(false)?, connection));
        }
        Ok(())
    })?
}

fn shares(open: &[(String, Connection)]) -> [usize; 3] {
    ["b1", "b2", "b3"].map(|name| open.iter().filter(|(backend, _)| backend == name).count())
}
