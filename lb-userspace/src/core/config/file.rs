//! The file as it is written: every section and key of the contract, with its meaning.
//!
//! The sentences become the descriptions an editor shows. Whether the parts fit together is for `service`,
//! `services` and `sections`; what stands for an absent key, for those who build `Config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::hosts::{HostPort, SrvName};
use super::keys::{section, words};
use super::shapes::{Entries, Int, List, OneOrMore, Sections, Weights};
use super::values::{Datapoints, Endpoint, Interface, Member, Name, Prefix, Routed, Statuses, Threshold, Unicast};

section! {
    /// The configuration of one Naru node.
    File {
        /// This machine.
        node: Node,
        /// How the names of backends are resolved.
        dns: Dns,
        /// Addresses shared with another node.
        vrrp: Sections<Vrrp>,
        /// Ways to find out whether a backend can serve.
        check: Sections<Check>,
        /// Backends that services use by name.
        backend: Sections<Backend>,
        /// What is served, where and by whom.
        service: Sections<Service>,
        /// Rules that shift weights while a metric is too high.
        alarm: Sections<Alarm>,
        /// The status pages.
        web: Web,
    }
}

section! {
    Node {
        /// What this node is called in `naru status`; without it the host's name.
        name: Name,
        /// Interfaces the XDP program is attached to; without it those that reach the listens and backends.
        interfaces: List<Interface>,
        /// How the XDP program is attached: `auto` takes native on network cards and generic on devices in software, and the one in which frames arrive.
        xdp: Xdp,
        /// Folder of the control socket; without it /run/naru.
        run_dir: PathBuf,
        /// Folder of what is kept over a restart, as overrides are; without it /var/lib/naru, or a run_dir other than /run/naru.
        state_dir: PathBuf,
        /// Folder of the pinned maps, on a BPF file system; without it /sys/fs/bpf/naru.
        pin_dir: PathBuf,
        /// How many flows of each address family there is room for, 256 and 512 bytes each; without it 262144.
        max_flows: Int<1024, 4_000_000>,
    }
}

section! {
    Dns {
        /// Name servers, address:port; without it those of /etc/resolv.conf.
        servers: List<SocketAddr>,
        /// Answers are kept at least this long.
        min_ttl: Duration,
        /// Answers are kept at most this long.
        max_ttl: Duration,
    }
}

section! {
    Vrrp {
        /// Interface the addresses are on and the adverts are sent from.
        interface (such as "\"eth0\""): Interface,
        /// Virtual router id, the same on all nodes.
        id (such as "51"): Int<1, 255>,
        /// The node with the highest becomes master; without it 100. 255 is for the owner of the addresses.
        priority: Int<1, 255>,
        /// Time between adverts; without it 100ms, and 1s for version 2. A dead master is replaced after three and a bit.
        interval: Duration,
        /// Version of the protocol; without it 3.
        version: Int<2, 3>,
        /// Whether this node takes over from a master of lower priority; without it true.
        preempt: bool,
        /// A master of lower priority is let be for so long before this node takes over from it.
        preempt_delay: Duration,
        /// This node takes nothing over for so long after its start.
        startup_delay: Duration,
        /// Addresses the master has, with their prefix length; one without stands alone, as /32 or /128.
        addresses (such as "[\"198.18.0.100/24\"]"): List<Prefix>,
        /// Addresses of the other nodes, for unicast instead of multicast; nobody else is heard.
        peers: List<Unicast>,
        /// Instances of one group are master together or not at all.
        group: Name,
        /// What the checksum covers that is sent in version 3 over IPv4; without it pseudo-header. Either is understood.
        checksum: Checksum,
        /// File that holds the password of version 2, 8 characters at most.
        password_file: PathBuf,
        /// File that holds the key all nodes have, in version 3: nobody without it is heard. Two lines: the second is heard too.
        key_file: PathBuf,
        /// The addresses are announced again this often; without it when that has to be, with virtual_mac every minute, too.
        announce_every: Duration,
        /// The addresses have a MAC that moves with them, on an interface made for it; without it false.
        virtual_mac: bool,
        /// What changes the priority while it is not well.
        track: List<Track>,
        /// A program and its arguments, run at each change of role, with JSON as its input.
        notify: List<String>,
    }
}

section! {
    Track {
        /// A service, which is well unless it is down.
        service: Name,
        /// An interface, which is well while it has carrier.
        interface: Interface,
        /// A program and its arguments, which is well while it exits with 0.
        command: List<String>,
        /// Time between two runs of the program; without it 1s.
        every: Duration,
        /// A program that takes longer has failed; without it 1s.
        timeout: Duration,
        /// Failures in a row until the program is not well; without it 3.
        fall: Int<1, 100>,
        /// Successes in a row until it is; without it 2.
        rise: Int<1, 100>,
        /// Added to the priority while it is not well; 0 means that this node can be neither master nor backup then.
        weight (such as "-60"): Int<-254, 254>,
    }
}

section! {
    Check {
        /// What is spoken with the backend.
        r#type (such as "\"tcp\""): CheckType,
        /// Asks this address instead of the backend's.
        address: Routed,
        /// Asks this port instead of the backend's.
        port: Int<1, 65535>,
        /// Time between checks; without it 200ms, and 2s for exec.
        every: Duration,
        /// A check that takes longer has failed; without it 150ms for tcp, 500ms for databases, else 1s.
        timeout: Duration,
        /// A connection that takes longer has failed; without it 150ms, or the timeout if that is less.
        connect_timeout: Duration,
        /// Failures in a row until a backend is down; without it 3.
        fall: Int<1, 100>,
        /// Successes in a row until a backend that was down is up; without it 2.
        rise: Int<1, 100>,
        /// Method of the request; without it GET.
        method: String,
        /// Path that is requested; without it /.
        path: String,
        /// The Host header; without it the address that is asked.
        host: String,
        /// Further headers of the request.
        headers: Entries<String>,
        /// Status codes that mean up, such as 200 or "200-399", which it is without this.
        expect: List<Statuses>,
        /// Text that the first 64 KiB of the answer must contain.
        body: String,
        /// Whether TLS is spoken with the database; without it false.
        tls: bool,
        /// Whether the certificate must be good; without it true.
        verify: bool,
        /// File of the certificate authorities that are trusted (PEM); without it those of the system.
        ca: PathBuf,
        /// The name in the certificate; without it the host, or the address that is asked.
        server_name: String,
        /// The role the database must have.
        role: Role,
        /// User to log in as; without it naru.
        user: String,
        /// File that holds the password; it is read again for each login.
        password_file: PathBuf,
        /// Database to log in to; without it postgres, and none for mysql.
        database: String,
        /// A replica that has missed something for longer than this takes no new flows.
        max_lag: Duration,
        /// The program and its arguments; exit code 0 means up, 10 standby, 75 that nothing was found out, any other down.
        command: List<String>,
    }
}

section! {
    Backend {
        /// Its address:port.
        address: Endpoint,
        /// Its name:port, re-resolved; every answer is a member.
        host: HostPort,
        /// The name of its SRV records, re-resolved; they say which hosts and ports, with which priority and weight.
        srv: SrvName,
    }
}

section! {
    Service {
        /// Where clients connect to: an address:port or a list of them.
        listen (such as "\"198.18.0.100:80\""): OneOrMore<Endpoint>,
        /// Protocol of the listens and backends; without it tcp.
        protocol: Protocol,
        /// How packets reach the backends; without it nat.
        mode: Mode,
        /// How a new flow finds its backend; without it maglev.
        algorithm: Algorithm,
        /// Addresses the backends see; without it the one of the interface towards the backend.
        snat: List<Routed>,
        /// Who serves: names of [backend.NAME], address:port or host:port.
        backends (such as "[\"198.18.1.11:8080\"]"): List<Member>,
        /// Shares of new flows, 0 to 1000 by backend, without it 1; 0 means no new flows.
        weights: Weights,
        /// Backends used only while no other is up.
        backup: List<Member>,
        /// A backend that came up reaches its weight over this time.
        slow_start: Duration,
        /// A flow without packets for this long is forgotten; without it 4h for tcp, 60s for udp.
        idle_timeout: Duration,
        /// Name of the [check.NAME] for its backends.
        check: Name,
        /// At most this many backends are used at once.
        max_active: Int<1, 32767>,
        /// What becomes of new flows when no backend is up: refused, or given to the last that were; without it refuse.
        when_none_up: WhenNoneUp,
        /// What becomes of the TCP connections of a backend that is down or disabled; without it drain.
        on_down: OnDown,
    }
}

section! {
    Alarm {
        /// Name of the service it watches.
        service (such as "\"web\""): Name,
        /// The backend it watches; without it all of the service.
        backend: Member,
        /// What is measured, per second where that makes sense.
        metric (such as "\"new_flows\""): Metric,
        /// A data point above this counts.
        above (such as "500"): Threshold,
        /// Length of a data point, 1s or more; without it 10s.
        period: Duration,
        /// How many of the last data points make it ring; without it "2 of 3".
        datapoints: Datapoints,
        /// What a data point without data counts as; without it ok. Ignored ones change nothing.
        missing: Missing,
        /// The weights while it rings, 0 to 1000 by backend; who is not named keeps its own.
        weights (such as "{ rack = 0, cloud = 100 }"): Weights,
        /// It is over after this long without a data point above, twice as long each time it soon rings again; without it 60s.
        clear_after: Duration,
        /// The weights then go back over this time; without it 30s.
        ramp: Duration,
    }
}

section! {
    Web {
        /// Address:port of /metrics and /stats.
        listen (such as "\"127.0.0.1:8404\""): SocketAddr,
    }
}

words! { Xdp { Auto = "auto", Native = "native", Generic = "generic", } }
words! { CheckType { Tcp = "tcp", Http = "http", Https = "https", Postgres = "postgres", Mysql = "mysql", Exec = "exec", } }
words! { Role { Primary = "primary", Replica = "replica", } }
words! { Protocol { Tcp = "tcp", Udp = "udp", } }
words! { Mode { Nat = "nat", DsrL2 = "dsr-l2", DsrIpip = "dsr-ipip", } }
words! {
    Algorithm {
        Maglev = "maglev",
        RoundRobin = "round-robin",
        LeastConnections = "least-connections",
        Source = "source",
    }
}
words! { Checksum { PseudoHeader = "pseudo-header", Message = "message", } }
words! { OnDown { Drain = "drain", Reset = "reset", } }
words! { WhenNoneUp { Refuse = "refuse", Last = "last", } }
words! { Metric { NewFlows = "new_flows", ActiveFlows = "active_flows", Packets = "packets", Bytes = "bytes", } }
words! { Missing { Ok = "ok", Breaching = "breaching", Ignore = "ignore", } }
