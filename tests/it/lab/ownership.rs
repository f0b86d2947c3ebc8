//! Two nodes that share an address: whatever happens to one, clients find the other, and never both.

use std::thread;
use std::time::Instant;

use lb_tests::lab::*;

use super::*;

pub(super) const EVENTUALLY: Duration = Duration::from_secs(10);
/// At adverts every 30 ms; the goals are half of it, and a busy machine is slow.
pub(super) const CRASH: Duration = Duration::from_millis(400);
pub(super) const GRACE: Duration = Duration::from_millis(150);

pub(super) struct Pair<'lab> {
    pub a: Naru<'lab>,
    pub b: Naru<'lab>,
    pub caller: Caller,
    pub watch: ArpWatch,
    _servers: Vec<Nginx>,
}

pub(super) fn config(net: &Twins, name: &str, priority: u8) -> String {
    format!(
        "[node]\nname = \"{name}\"\nmax_flows = 4096\n\n[vrrp.main]\ninterface = \"eth0\"\nid = 51\npriority = {priority}\n\
         interval = \"30ms\"\naddresses = [\"{VIP}/24\"]\n\n{}",
        net.service()
    )
}

impl<'lab> Pair<'lab> {
    /// `a` is master, clients call, and who has the address is watched.
    fn start(lab: &Lab, net: &'lab Twins) -> Result<Self> {
        Self::start_with(lab, net, &config(net, "a", 150), &config(net, "b", 100))
    }

    pub fn start_with(lab: &Lab, net: &'lab Twins, a: &str, b: &str) -> Result<Self> {
        let servers = net.serve(lab)?;
        let a = Naru::run(lab, &net.a, a)?;
        let b = Naru::run(lab, &net.b, b)?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        until(EVENTUALLY, || has_role(&b, "backup"))?;
        let caller = Caller::start(&net.client, LISTEN)?;
        caller.heard("b1", Instant::now(), EVENTUALLY)?;
        // What one made of the other's beginning, on a kernel that both share, is over.
        caller.lost_for(Instant::now(), EVENTUALLY)?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        until(EVENTUALLY, || has_role(&b, "backup"))?;
        let watch = ArpWatch::start(&net.watcher, VIP)?;
        until_true(EVENTUALLY, "nobody answers by ARP", || Ok(!watch.owners().is_empty()))?;
        Ok(Self {
            a,
            b,
            caller,
            watch,
            _servers: servers,
        })
    }

    /// Clients were kept waiting no longer than this, and `b` has the address, alone.
    fn moved(&self, net: &Twins, fault: Instant, within: Duration) -> Result<()> {
        lost_at_most(within, self.caller.lost_for(fault, EVENTUALLY)?, "on the way over")?;
        until(EVENTUALLY, || has_role(&self.b, "master"))?;
        self.owned_by(&[&net.a, &net.b])
    }

    /// One after the other, and nobody again after another was.
    pub fn owned_by(&self, nodes: &[&Namespace]) -> Result<()> {
        let macs = nodes.iter().map(|node| Twins::mac(node)).collect::<Result<Vec<_>>>()?;
        let owners = self.watch.owners();
        ensure!(
            owners == macs,
            "by ARP the address was at {owners:02x?}, expected {macs:02x?}"
        );
        Ok(())
    }
}

/// And says so.
pub(super) fn lost_at_most(bound: Duration, lost: Duration, when: &str) -> Result<()> {
    let words = format!("{when}: calls were lost for {lost:?}");
    note(&words);
    ensure!(lost <= bound, words);
    Ok(())
}

pub(super) fn has_role(naru: &Naru, role: &str) -> Result<()> {
    let status = naru.status()?;
    let found = named(&status["vrrp"], "main")?;
    ensure!(found["role"] == role, "{found}");
    Ok(())
}

pub(super) fn addresses(node: &Namespace) -> Result<String> {
    node.stdout("ip", &["-br", "address", "show", "eth0"])
}

pub(super) fn paired(act: impl Fn(&Lab, &Twins, &mut Pair) -> Result<()> + std::panic::RefUnwindSafe) {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let mut pair = Pair::start(lab, &net)?;
        act(lab, &net, &mut pair)
    });
}

#[test]
fn a_killed_daemon_is_fenced_and_the_other_node_takes_over() {
    paired(|_, net, pair| {
        let fault = Instant::now();
        pair.a.kill9()?;
        pair.moved(net, fault, CRASH)?;
        // Nobody took it off.
        ensure!(addresses(&net.a)?.contains("198.18.0.100"));
        Ok(())
    });
}

#[test]
fn a_stopped_daemon_is_fenced_and_yields_when_it_goes_on() {
    paired(|_, net, pair| {
        let fault = Instant::now();
        pair.a.pause()?;
        pair.moved(net, fault, CRASH)?;
        pair.a.resume()?;
        // It is late, gives up, and preempts as it did at its start.
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;
        until(EVENTUALLY, || has_role(&pair.b, "backup"))?;
        until(EVENTUALLY, || pair.owned_by(&[&net.a, &net.b, &net.a]))
    });
}

#[test]
fn a_node_that_is_cut_off_is_replaced_and_comes_back() {
    paired(|_, net, pair| {
        let fault = Instant::now();
        net.cut_off(&net.a)?;
        pair.moved(net, fault, CRASH)?;
        net.join(&net.a)?;
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;
        until(EVENTUALLY, || has_role(&pair.b, "backup"))
    });
}

#[test]
fn a_pulled_cable_moves_the_address() {
    paired(|_, net, pair| {
        let fault = Instant::now();
        net.plug_in(&net.a, false)?;
        pair.moved(net, fault, CRASH)?;
        until(EVENTUALLY, || has_role(&pair.a, "fault"))?;
        net.plug_in(&net.a, true)?;
        until(EVENTUALLY, || has_role(&pair.a, "master"))
    });
}

#[test]
fn a_daemon_that_is_told_to_stop_hands_over_first() {
    paired(|_, net, pair| {
        let fault = Instant::now();
        pair.a.stop()?;
        pair.moved(net, fault, GRACE)?;
        ensure!(
            !addresses(&net.a)?.contains("198.18.0.100"),
            "it left its address behind"
        );
        Ok(())
    });
}

#[test]
fn an_operator_moves_the_address_and_takes_it_back() {
    paired(|_, net, pair| {
        let fault = Instant::now();
        pair.a.tell(&["failover"])?;
        pair.moved(net, fault, GRACE)?;
        has_role(&pair.a, "backup")?;
        let fault = Instant::now();
        pair.a.tell(&["failback"])?;
        lost_at_most(GRACE, pair.caller.lost_for(fault, EVENTUALLY)?, "on the way back")?;
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;
        pair.owned_by(&[&net.a, &net.b, &net.a])
    });
}

#[test]
fn an_address_that_somebody_takes_off_is_put_back() {
    paired(|_, net, pair| {
        for _ in 0..10 {
            let fault = Instant::now();
            net.a.ip("addr del 198.18.0.100/24 dev eth0")?;
            let lost = pair.caller.lost_for(fault, EVENTUALLY)?;
            ensure!(lost <= GRACE, "{lost:?}");
            ensure!(addresses(&net.a)?.contains("198.18.0.100"));
        }
        has_role(&pair.a, "master")?;
        pair.owned_by(&[&net.a])
    });
}

#[test]
fn what_a_killed_daemon_left_behind_is_cleared_at_its_next_start() {
    paired(|_, net, pair| {
        pair.a.kill9()?;
        until(EVENTUALLY, || has_role(&pair.b, "master"))?;
        pair.a.save(&config(net, "a", 50))?;
        pair.a.start()?;
        until(EVENTUALLY, || has_role(&pair.a, "backup"))?;
        ensure!(!addresses(&net.a)?.contains("198.18.0.100"));
        has_role(&pair.b, "master")?;
        pair.owned_by(&[&net.a, &net.b])
    });
}

#[test]
fn addresses_of_ipv6_move_as_well() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let _servers = net.serve(lab)?;
        let config = |name: &str, priority: u8| {
            format!(
                "[node]\nname = \"{name}\"\nmax_flows = 4096\n\n[vrrp.main]\ninterface = \"eth0\"\nid = 51\n\
                 priority = {priority}\ninterval = \"30ms\"\naddresses = [\"fe80::100/64\", \"{VIP6}/64\"]\n\n\
                 [service.web]\nlisten = \"[{VIP6}]:80\"\nbackends = [\"{}\"]\n",
                Twins::backend6(0)
            )
        };
        let mut a = Naru::run(lab, &net.a, &config("a", 150))?;
        let b = Naru::run(lab, &net.b, &config("b", 100))?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        until(EVENTUALLY, || has_role(&b, "backup"))?;
        let caller = Caller::start(&net.client, LISTEN6)?;
        caller.heard("b1", Instant::now(), EVENTUALLY)?;

        let fault = Instant::now();
        a.kill9()?;
        lost_at_most(CRASH, caller.lost_for(fault, EVENTUALLY)?, "killed")?;
        has_role(&b, "master")?;
        a.start()?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        let fault = Instant::now();
        a.stop()?;
        lost_at_most(GRACE, caller.lost_for(fault, EVENTUALLY)?, "stopped")
    });
}

/// As many as an advert holds, at the shortest interval: nobody is late because addresses are put and announced.
#[test]
fn adverts_go_on_while_255_addresses_are_announced() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let _servers = net.serve(lab)?;
        let addresses: Vec<String> = (1..=255).map(|last| format!("\"198.18.1.{last}\"")).collect();
        let config = |name: &str, priority: u8| {
            format!(
                "[node]\nname = \"{name}\"\nmax_flows = 4096\n\n[vrrp.main]\ninterface = \"eth0\"\nid = 51\n\
                 priority = {priority}\ninterval = \"10ms\"\naddresses = [{}]\n\n{}",
                addresses.join(", "),
                net.service().replace("198.18.0.100", "198.18.1.100")
            )
        };
        let adverts = AdvertWatch::start(&net.watcher)?;
        let mut a = Naru::run(lab, &net.a, &config("a", 150))?;
        let b = Naru::run(lab, &net.b, &config("b", 100))?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        until(EVENTUALLY, || has_role(&b, "backup"))?;
        let begun = Instant::now();
        a.stop()?;
        until(EVENTUALLY, || has_role(&b, "master"))?;
        a.start()?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        until(EVENTUALLY, || has_role(&b, "backup"))?;
        let count = |node: &Namespace| -> Result<usize> {
            let shown = node.stdout("ip", &["-4", "-o", "address", "show", "eth0"])?;
            Ok(shown.lines().filter(|line| line.contains(" 198.18.1.")).count())
        };
        ensure!((count(&net.a)?, count(&net.b)?) == (255, 0));

        let gaps = adverts.longest_gap(begun);
        note(&format!("longest time between two adverts: {gaps:?}"));
        for naru in [&a, &b] {
            let told = naru.vrrp()?;
            let instance = &told["instances"][0];
            ensure!(instance["late"] == 0 && instance["claims_in_vain"] == 0, "{told}");
        }
        Ok(())
    });
}

/// The kernel changes one thing of its network after the other, and whoever wants to see it waits: programs come and go all
/// the time, and there is always something new to see.
#[test]
fn adverts_go_on_while_the_kernel_makes_everybody_wait() {
    const BUSY: Duration = Duration::from_secs(3);
    paired(|lab, net, pair| {
        let elsewhere = lab.namespace("elsewhere")?;
        for end in ["1", "2", "3", "4"] {
            elsewhere.ip(&format!(
                "link add one{end} type veth peer name two{end}\nlink set one{end} up"
            ))?;
        }
        let begun = Instant::now();
        let again = |change: &dyn Fn() -> Result<()>| -> Result<Duration> {
            let mut slowest = Duration::ZERO;
            while begun.elapsed() < BUSY {
                let turn = Instant::now();
                change()?;
                slowest = slowest.max(turn.elapsed());
            }
            Ok(slowest)
        };
        let slowest = thread::scope(|threads| {
            let busy = ["one1", "one2", "one3", "one4"].map(|end| {
                let (again, elsewhere) = (&again, &elsewhere);
                threads.spawn(move || again(&|| PassProgram::load()?.attach(elsewhere, end)))
            });
            let slowest = again(&|| {
                net.a
                    .ip("addr add 198.18.0.50/32 dev eth0\naddr del 198.18.0.50/32 dev eth0")
            });
            for busy in busy {
                busy.join().expect("no panic")?;
            }
            slowest
        })?;
        note(&format!("a change of addresses took up to {slowest:?}"));
        for (naru, role) in [(&pair.a, "master"), (&pair.b, "backup")] {
            let told = naru.vrrp()?;
            let instance = &told["instances"][0];
            ensure!(instance["late"] == 0 && instance["role"] == role, "{told}");
        }
        pair.owned_by(&[&net.a])
    });
}

/// Node `b` hears nobody, and is heard.
#[test]
fn a_node_that_is_deaf_is_no_second_master() {
    paired(|_, net, pair| {
        net.b.cut_off()?;
        until(EVENTUALLY, || has_role(&pair.b, "master"))?;
        until(EVENTUALLY, || has_role(&pair.a, "backup"))?;
        net.b.join()?;
        // It is let be for ten seconds.
        until(EVENTUALLY * 2, || has_role(&pair.a, "master"))?;
        until(EVENTUALLY, || has_role(&pair.b, "backup"))
    });
}

#[test]
fn lost_adverts_move_nothing_back_and_forth() {
    paired(|_, net, pair| {
        let changes = |naru: &Naru| -> Result<usize> {
            let told = naru.vrrp()?;
            Ok(told["transitions"].as_array().context("a list of transitions")?.len())
        };
        let before = changes(&pair.a)? + changes(&pair.b)?;
        net.nodes().into_iter().try_for_each(|node| node.lose(5))?;
        let begun = Instant::now();
        while begun.elapsed() < sized(Duration::from_secs(10), Duration::from_secs(300)) {
            pair.a.still_runs()?;
            thread::sleep(Duration::from_millis(100));
        }
        net.nodes().into_iter().try_for_each(|node| node.lose(0))?;
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;
        until(EVENTUALLY, || has_role(&pair.b, "backup"))?;
        let moved = changes(&pair.a)? + changes(&pair.b)? - before;
        note(&format!("{moved} changes of role"));
        ensure!(moved <= sized(4, 40), "{moved} changes of role");
        Ok(())
    });
}
