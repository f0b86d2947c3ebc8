//! Configs for unit tests.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::config::{Backend, Config, Node, Protocol, Service, Xdp};

pub type ServiceLine<'a> = (&'a str, Vec<SocketAddrV4>, &'a [(&'a str, &'a str, u16)]);

pub fn config(services: &[ServiceLine]) -> Config {
    let service = |(name, listens, backends): &ServiceLine| {
        let backend = |&(name, address, weight): &(&str, &str, u16)| Backend {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            weight,
        };
        let service = Service {
            listens: listens.clone(),
            protocol: Protocol::Tcp,
            snat: None,
            idle_timeout: Duration::from_secs(3600),
            backends: backends.iter().map(backend).collect(),
        };
        ((*name).to_owned(), service)
    };
    let node = Node {
        name: Some("lb-a".into()),
        interfaces: None,
        xdp: Xdp::Auto,
        run_dir: "/run/naru".into(),
        pin_dir: "/sys/fs/bpf/naru".into(),
        max_flows: 1000,
    };
    Config {
        node,
        services: services.iter().map(service).collect(),
    }
}
