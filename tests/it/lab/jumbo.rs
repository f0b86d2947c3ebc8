//! Frames larger than 1,500 bytes.

use lb_tests::lab::*;

use super::*;

const MTU: &str = "9000";

#[test]
fn jumbo_frames_are_served_like_others() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        net.set_mtu(MTU)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;

        let outcome = Transfers::start(&net.client, LISTEN, 8)?.finish();
        assert_eq!(outcome.broken, [""; 0]);
        assert_eq!(outcome.complete.values().sum::<usize>(), 8);

        let status = naru.status()?;
        let sum = |what| -> anyhow::Result<u64> {
            let of_both = ["b1", "b2"].map(|name| backend(&status, "web", name));
            of_both.into_iter().map(|backend| Ok(number(&backend?[what]))).sum()
        };
        // Acknowledgments are packets too; without jumbo frames no packet at all is that long.
        assert!(sum("bytes")? > 1514 * sum("packets")?, "{status}");
        Ok(())
    });
}
