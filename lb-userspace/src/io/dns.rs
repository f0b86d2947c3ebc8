//! Asks name servers what the world wants to know: all of them at once, each by UDP, and by TCP what is too long for that.
//!
//! Neither remembers nor decides anything: `core::dns` does. A resolver for each server, since one for several lets the
//! first refusal win; no cache, no hosts file, no search list, so that an answer is a server's own word. Tested in the lab,
//! against a real server.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tokio::task::{Id, JoinSet};

use crate::core::dns::{Answer, Family, Found, Nothing, Question, Reply, agree};

/// Of one server; a datagram that is lost is sent again meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Resolver {
    servers: BTreeMap<SocketAddr, TokioResolver>,
    tasks: JoinSet<Answer>,
    under_way: HashMap<Id, Question>,
}

impl Resolver {
    /// Asks those servers; None: those of the system.
    pub fn ask(&mut self, question: Question, servers: Option<&[SocketAddr]>) {
        let servers = servers.map_or_else(of_system, |servers| Ok(servers.to_vec()));
        let asked = servers.and_then(|servers| self.resolvers(&servers));
        let (name, kind) = (absolute(&question.host), record_type(question.family));
        let task = self.tasks.spawn(async move {
            match (asked, name) {
                (Ok(asked), Ok(name)) => first(asked, name, kind).await,
                (Err(error), _) | (_, Err(error)) => Answer::Failed(error),
            }
        });
        self.under_way.insert(task.id(), question);
    }

    /// Cancel safe.
    pub async fn answered(&mut self) -> (Question, Answer) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, answer) = match ended {
                Ok(ended) => ended,
                Err(error) => (error.id(), Answer::Failed(format!("the question broke off: {error}"))),
            };
            if let Some(question) = self.under_way.remove(&id) {
                return (question, answer);
            }
        }
        std::future::pending().await
    }

    fn resolvers(&mut self, servers: &[SocketAddr]) -> Result<Vec<(SocketAddr, TokioResolver)>, String> {
        self.servers.retain(|server, _| servers.contains(server));
        let mut resolvers = Vec::new();
        for server in servers {
            let resolver = match self.servers.get(server) {
                Some(resolver) => resolver.clone(),
                None => resolver(*server).map_err(|error| error.to_string())?,
            };
            self.servers.insert(*server, resolver.clone());
            resolvers.push((*server, resolver));
        }
        Ok(resolvers)
    }
}

/// Read each time: it may change while we run.
fn of_system() -> Result<Vec<SocketAddr>, String> {
    let (config, _) = read_system_conf().map_err(|error| format!("/etc/resolv.conf: {error}"))?;
    let servers = config.name_servers().iter();
    Ok(servers.map(|server| SocketAddr::new(server.ip, 53)).collect())
}

fn resolver(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let on_its_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_its_port);
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // Else the life of a CNAME is lost.
    options.preserve_intermediates = true;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    // Ports of the kernel's choice are none of those that flows are translated to.
    options.os_port_selection = true;
    let builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build()
}

fn absolute(host: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(host).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

const fn record_type(family: Family) -> RecordType {
    match family {
        Family::Ipv4 => RecordType::A,
        Family::Ipv6 => RecordType::AAAA,
    }
}

/// The first that found something; else what all of them say.
async fn first(servers: Vec<(SocketAddr, TokioResolver)>, name: Name, kind: RecordType) -> Answer {
    let mut tasks = JoinSet::new();
    for (server, resolver) in servers {
        let name = name.clone();
        tasks.spawn(async move { (server, reply(server, resolver.lookup(name, kind).await)) });
    }
    let mut replies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok((_, Reply::Said(found @ Answer::Found(_)))) => return found,
            Ok(reply) => replies.push(reply),
            Err(error) => return Answer::Failed(format!("the question broke off: {error}")),
        }
    }
    agree(replies)
}

fn reply(server: SocketAddr, outcome: Result<Lookup, NetError>) -> Reply {
    let error = match outcome {
        Ok(lookup) => return Reply::Said(found(server, &lookup)),
        Err(error) => error,
    };
    Reply::Said(match error {
        NetError::Timeout => return Reply::Silent("no answer in time".to_owned()),
        NetError::Io(error) => return Reply::Silent(error.to_string()),
        NetError::Dns(DnsError::NoRecordsFound(none)) => nothing(&none),
        NetError::Dns(DnsError::ResponseCode(code)) => Answer::Failed(refusal(code)),
        other => Answer::Failed(other.to_string()),
    })
}

/// The records of a chain of names end together with the first of them.
fn found(server: SocketAddr, lookup: &Lookup) -> Answer {
    let records = lookup.answers();
    let addresses = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or_default();
    Answer::Found(Found {
        addresses,
        ttl: Duration::from_secs(ttl.into()),
        server,
    })
}

fn nothing(none: &NoRecords) -> Answer {
    if none.ns.is_some() && none.soa.is_none() {
        return Answer::Failed("knows only of other servers to ask".to_owned());
    }
    let what = match none.response_code {
        ResponseCode::NXDomain => Nothing::NoName,
        _ => Nothing::NoAddress,
    };
    Answer::Nothing(what, Duration::from_secs(none.negative_ttl.unwrap_or_default().into()))
}

fn refusal(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_str().to_owned(),
    }
}
