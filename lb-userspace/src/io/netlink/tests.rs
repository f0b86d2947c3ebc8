//! The watch against a real kernel, in two network namespaces joined by a veth pair. Needs root.

mod ipv6;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::addresses::{Addresses, Step};
use super::*;
use crate::core::dns::Family;
use crate::core::network::{KernelRoute, Own, Prefix};
use crate::core::vrrp::settings::Address;
use crate::core::vrrp::virtual_link::VirtualLink;

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));

/// Each link that speaks IPv6 has it.
const LINK_LOCAL: Prefix = Prefix {
    address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    length: 64,
};

/// Runs `test` in a new network namespace that has `near` (198.18.0.1/24) wired to a far one's `far` (198.18.0.2/24).
fn in_lab(test: impl AsyncFnOnce(&Lab) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        // Not by a macro: the test runner would keep it to itself.
        let _ = writeln!(std::io::stderr(), "SKIP netlink: needs root to make network namespaces");
        return;
    }
    let (far_commands, received) = mpsc::channel::<String>();
    let (tell_id, far_id) = mpsc::channel();
    let (tell_done, far_done) = mpsc::channel();
    let far = thread::spawn(move || {
        enter_new_network();
        tell_id.send(rustix::thread::gettid()).unwrap();
        for command in received {
            ip(&command);
            tell_done.send(()).unwrap();
        }
    });
    let near = thread::spawn(move || {
        enter_new_network();
        let far_id = far_id.recv().unwrap();
        ip("link set lo up");
        ip("link add near type veth peer name far");
        ip(&format!("link set far netns {}", far_id.as_raw_nonzero()));
        ip("link set near address 02:00:00:00:00:01 up");
        ip("addr add 198.18.0.1/24 dev near");
        let lab = Lab { far_commands, far_done };
        lab.far("link set far address 02:00:00:00:00:02 up");
        lab.far("addr add 198.18.0.2/24 dev far");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test(&lab));
    });
    // The namespaces and all in them go with their threads.
    let result = near.join();
    far.join().unwrap();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

struct Lab {
    far_commands: mpsc::Sender<String>,
    far_done: mpsc::Receiver<()>,
}

impl Lab {
    fn far(&self, command: &str) {
        self.far_commands.send(command.to_owned()).unwrap();
        self.far_done.recv().unwrap();
    }
}

fn enter_new_network() {
    // SAFETY: a network namespace of its own changes nothing about this thread's memory or open files.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The kernel's count over the netlink sockets of this namespace.
fn messages_lost() -> u64 {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let drops = sockets
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .position(|title| title == "Drops")
        .unwrap();
    sockets
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(drops).unwrap().parse::<u64>().unwrap())
        .sum()
}

/// The first picture that `wanted` accepts, and how many came up to it.
async fn until(watch: &mut Watch, wanted: impl Fn(&Network) -> bool) -> (Network, usize) {
    let mut network = watch.network();
    let mut pictures = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !wanted(&network) {
        let left = deadline - Instant::now();
        timeout(left, watch.changed())
            .await
            .unwrap_or_else(|_| panic!("no such picture; the last: {network:#?}"));
        network = watch.network();
        pictures += 1;
    }
    (network, pictures)
}

fn index(network: &Network, name: &str) -> u32 {
    *network.links.iter().find(|(_, link)| link.name == name).unwrap().0
}

fn near(network: &Network) -> &crate::core::network::Link {
    &network.links[&index(network, "near")]
}

fn prefix(address: [u8; 4], length: u8) -> Prefix {
    Prefix {
        address: address.into(),
        length,
    }
}

#[test]
fn the_first_picture_shows_links_addresses_and_routes() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let link = near(&network);
        assert_eq!((link.mac, link.mtu, link.xdp), ([2, 0, 0, 0, 0, 1], 1500, None));
        assert_eq!(link.addresses, [Own::lasting(NEAR, 24)]);
        let ifindex = index(&network, "near");
        let on_link = |source| KernelRoute {
            ifindex,
            gateway: None,
            source,
        };
        assert_eq!(
            network.routes,
            [
                (prefix([198, 18, 0, 0], 24), on_link(Some(NEAR))),
                (LINK_LOCAL, on_link(None))
            ]
            .into(),
            "the main table only: no local, broadcast or multicast routes"
        );
    });
}

#[test]
fn routes_follow_the_main_table_and_its_metrics() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        until(&mut watch, |network| near(network).up).await;
        ip("route add default via 198.18.0.9 metric 20");
        ip("route add default via 198.18.0.2 metric 10");
        ip("route add 198.19.0.0/24 nexthop via 198.18.0.2 nexthop via 198.18.0.3");
        ip("route add blackhole 198.19.1.0/24");
        ip("route add 198.19.2.0/24 via 198.18.0.2 table 100");
        let (network, _) = until(&mut watch, |network| network.routes.len() >= 4).await;
        let via = KernelRoute {
            ifindex: index(&network, "near"),
            gateway: Some(FAR),
            source: None,
        };
        assert_eq!(network.routes.get(&prefix([0, 0, 0, 0], 0)), Some(&via));
        assert_eq!(network.routes.get(&prefix([198, 19, 0, 0], 24)), Some(&via));
        assert_eq!(network.routes.len(), 4, "{:#?}", network.routes);
        ip("route del default via 198.18.0.2");
        until(&mut watch, |network| {
            network
                .routes
                .get(&prefix([0, 0, 0, 0], 0))
                .is_some_and(|route| route.gateway == Some([198, 18, 0, 9].into()))
        })
        .await;
    });
}

/// All that is said of addresses on it is said of the interface below.
#[test]
fn an_interface_for_a_virtual_mac_is_in_no_picture() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let parent = index(&network, "near");
        let link = VirtualLink {
            family: Family::Ipv6,
            id: 51,
            parent,
        };
        let mut kernel = Addresses::open().unwrap();
        kernel.make(&link).unwrap();
        let is_ours = |interface: &addresses::Interface| interface.virtual_link == Some(link);
        let seen = kernel.look().unwrap();
        let (&ours, interface) = seen.iter().find(|(_, interface)| is_ours(interface)).unwrap();
        assert!(interface.is_macvlan && !interface.is_set_up);
        let own = Address {
            address: "fe80::100".parse().unwrap(),
            length: 64,
        };
        let failed = kernel
            .take(ours, &[Step::SetUp, Step::Put { own, routed: true }])
            .unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(kernel.look().unwrap()[&ours].marked, [own]);
        // Its route to that block is now the older one.
        ip("link set near down");
        ip("link set near up");
        ip("addr add 198.18.7.1/24 dev near");
        let last = prefix([198, 18, 7, 0], 24);
        let is_whole = |network: &Network| {
            [last, LINK_LOCAL]
                .iter()
                .all(|block| network.routes.contains_key(block))
        };
        let (network, _) = until(&mut watch, is_whole).await;
        assert!(!network.links.contains_key(&ours));
        assert_eq!(network.routes[&LINK_LOCAL].ifindex, parent);
        kernel.unmake(&link).unwrap();
        assert!(!kernel.look().unwrap().values().any(is_ours));
        kernel.unmake(&link).expect("it is gone, as it should be");
    });
}

#[test]
fn neighbours_are_found_and_their_new_addresses_followed() {
    in_lab(async |lab| {
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let key = (index(&network, "near"), FAR);
        assert_eq!(network.neighbours.get(&key), None);
        watch.keep_known([key].into());
        until(&mut watch, |network| {
            network.neighbours.get(&key) == Some(&[2, 0, 0, 0, 0, 2])
        })
        .await;
        lab.far("link set far address 02:00:00:00:00:03");
        ip("neigh flush dev near");
        until(&mut watch, |network| {
            network.neighbours.get(&key) == Some(&[2, 0, 0, 0, 0, 3])
        })
        .await;
    });
}

#[test]
fn a_neighbour_that_comes_late_is_found_all_the_same() {
    in_lab(async |lab| {
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let key = (index(&network, "near"), [198, 18, 0, 3].into());
        watch.keep_known([key].into());
        // The kernel has given up on it once by then.
        sleep(Duration::from_secs(4)).await;
        lab.far("addr add 198.18.0.3/24 dev far");
        until(&mut watch, |network| network.neighbours.contains_key(&key)).await;
    });
}

#[test]
fn a_permanent_neighbour_stays_permanent() {
    in_lab(async |_lab| {
        ip("neigh add 198.18.0.7 lladdr 02:00:00:00:00:07 dev near nud permanent");
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let ifindex = index(&network, "near");
        watch.keep_known([(ifindex, [198, 18, 0, 7].into()), (ifindex, FAR)].into());
        until(&mut watch, |network| network.neighbours.contains_key(&(ifindex, FAR))).await;
        let shown = Command::new("ip")
            .args(["neigh", "show", "dev", "near"])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(
            shown.contains("198.18.0.7 lladdr 02:00:00:00:00:07 PERMANENT"),
            "{shown}"
        );
    });
}

/// A full table refuses others, and takes none of those off.
#[test]
fn a_neighbour_that_is_wanted_is_kept_whatever_else_is_in_the_table() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let key = (index(&network, "near"), FAR);
        watch.keep_known([key].into());
        until(&mut watch, |network| network.neighbours.contains_key(&key)).await;
        let is_kept = || {
            let shown = Command::new("ip")
                .args(["neigh", "show", "dev", "near"])
                .output()
                .unwrap();
            String::from_utf8(shown.stdout).unwrap().contains("extern_learn")
        };
        assert!(is_kept());
        watch.keep_known(Neighbours::new());
        let deadline = Instant::now() + Duration::from_secs(5);
        while is_kept() {
            assert!(Instant::now() < deadline, "it is kept for good");
            sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn an_interface_comes_and_goes() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        ip("link add late type veth peer name later");
        ip("link set late mtu 1400");
        until(&mut watch, |network| {
            network
                .links
                .values()
                .any(|link| link.name == "late" && link.mtu == 1400)
        })
        .await;
        ip("link del late");
        until(&mut watch, |network| {
            !network.links.values().any(|link| link.name == "late")
        })
        .await;
    });
}

#[test]
fn churn_costs_at_most_five_pictures_a_second_and_lost_messages_no_change() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let ifindex = index(&network, "near");
        let started = Instant::now();
        // Far more than a socket buffer holds, while nobody reads: this thread runs the reader too.
        let lines: String = (0..20_000u32)
            .map(|n| {
                format!(
                    "neigh replace 198.18.0.{} lladdr 02:00:00:00:{:02x}:{:02x} dev near\n",
                    10 + n % 200,
                    n >> 8,
                    n & 255
                )
            })
            .collect();
        let file = std::env::temp_dir().join(format!("naru-churn-{}", std::process::id()));
        std::fs::write(&file, lines).unwrap();
        ip(&format!("-batch {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        assert!(messages_lost() > 0, "the churn was too small to overrun the socket");
        let last = (ifindex, IpAddr::from([198, 18, 0, 10 + (19_999 % 200) as u8]));
        let mac = [2, 0, 0, 0, (19_999u32 >> 8) as u8, (19_999u32 & 255) as u8];
        let (_, pictures) = until(&mut watch, |network| network.neighbours.get(&last) == Some(&mac)).await;
        let allowed = (started.elapsed() + IN_ADVANCE).as_millis() / APART.as_millis() + 2;
        assert!(
            pictures as u128 <= allowed,
            "{pictures} pictures in {:?}",
            started.elapsed()
        );
    });
}
