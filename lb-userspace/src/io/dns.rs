//! Asks name servers what the world wants to know: all of them at once, each by UDP, and by TCP what is too long for that.
//!
//! Neither remembers nor decides anything: `core::dns` does. A pool for each server, since one for several lets the
//! first refusal win, and for each question, since a server may have closed a connection that is kept; no cache and no
//! hosts file, so that an answer is a server's own word. What it says is for `reading`: the library's own way through
//! CNAMEs loses SRV records. What a name is searched as is for `core::dns` too: the library goes on after any error.
//! Tested in the lab, against real servers.

pub mod reading;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use self::reading::Chain;
use super::regular_file::read_in_time;
use crate::core::dns::{Answer, Question, Reply, ResolvConf, Search, agree};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const LONGEST_RESOLV_CONF: u64 = 64 * 1024;
/// Of one server; a datagram that is lost is sent again meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

type Server = NameServerPool<TokioRuntimeProvider>;

#[derive(Default)]
pub struct Resolver {
    tasks: JoinSet<Answer>,
    under_way: HashMap<Id, Question>,
}

impl Resolver {
    /// Asks those servers, or, with its search list, those of the system; `kept` is as what the name was found before.
    pub fn ask(&mut self, question: Question, servers: Option<&[SocketAddr]>, kept: Option<String>) {
        let servers = servers.map(<[SocketAddr]>::to_vec);
        let asked = question.clone();
        let task = self.tasks.spawn(async move {
            let whom = match servers {
                Some(servers) => Ok((servers, vec![asked.host.clone()])),
                None => of_system()
                    .await
                    .map(|conf| (conf.servers.clone(), conf.candidates(&asked))),
            };
            match whom {
                Ok((servers, candidates)) => search(&asked, &servers, Search::new(candidates, kept)).await,
                Err(error) => Answer::Failed(error),
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
}

/// Read each time: it may change while we run.
async fn of_system() -> Result<ResolvConf, String> {
    let text = read_in_time(Path::new(RESOLV_CONF), LONGEST_RESOLV_CONF).await;
    let text = text.map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(ResolvConf::read(&String::from_utf8_lossy(&text), host.trim()))
}

async fn search(question: &Question, servers: &[SocketAddr], mut search: Search) -> Answer {
    while let Some(host) = search.ask() {
        let candidate = Question {
            host: host.clone(),
            ..question.clone()
        };
        let answer = match Chain::new(&candidate) {
            Ok(chain) => first(servers, &chain).await,
            Err(error) => Answer::Failed(error),
        };
        search.heard(&host, answer);
    }
    search.end()
}

fn server(address: SocketAddr) -> Result<Server, NetError> {
    let on_its_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_its_port);
    let config = NameServerConfig::new(address.ip(), true, connections.to_vec());
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    // Ports of the kernel's choice are none of those that flows are translated to.
    options.os_port_selection = true;
    let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
    Ok(NameServerPool::from_config(
        [config],
        context,
        TokioRuntimeProvider::default(),
    ))
}

/// The first that found something; else what all of them say.
async fn first(servers: &[SocketAddr], chain: &Chain) -> Answer {
    let mut tasks = JoinSet::new();
    for &address in servers {
        let asked = ask(address, chain.clone());
        tasks.spawn(async move {
            let late = || Reply::Silent("no answer in time".to_owned());
            (address, timeout(TIMEOUT, asked).await.unwrap_or_else(|_| late()))
        });
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

/// Until the end of the CNAMEs: a server that is asked directly tells of its own zones only.
async fn ask(address: SocketAddr, mut chain: Chain) -> Reply {
    let server = match server(address) {
        Ok(server) => server,
        Err(error) => return Reply::Silent(error.to_string()),
    };
    loop {
        let query = Query::query(chain.end().clone(), chain.record_type());
        let outcome = server.lookup(query, DnsRequestOptions::default()).first_answer().await;
        if let Some(reply) = chain.read(address, outcome) {
            return reply;
        }
    }
}
