//! One prober of the daemon's, asked by hand from inside a namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_userspace::core::config::{Ask, Check, Protocol};
use lb_userspace::core::health::Target;
use lb_userspace::core::health::observation::Observation;
use lb_userspace::core::members::Name;
use lb_userspace::io::probes::{Deadlines, Prober};
use tokio::runtime::{Builder, Runtime};

use super::Namespace;

pub struct Asker<'lab> {
    namespace: &'lab Namespace,
    check: Check,
    // Dropped before what its connections live on.
    prober: Prober,
    runtime: Runtime,
}

impl<'lab> Asker<'lab> {
    /// With a second's time: the lab's machine has much else to do.
    pub fn new(namespace: &'lab Namespace, address: SocketAddr, ask: Ask) -> Result<Self> {
        let mut check = Check::implied(Protocol::Tcp).context("find the usual check")?;
        check.ask = ask;
        check.timeout = Duration::from_secs(1);
        let target = Target {
            service: 1,
            name: Name {
                service: "db".to_owned(),
                backend: address.to_string(),
            },
            address,
            fingerprint: 1,
            check: check.clone(),
        };
        Ok(Self {
            namespace,
            check,
            prober: Prober::new(Arc::new(target)),
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    pub fn ask(&mut self) -> Result<Observation> {
        let Self {
            namespace,
            check,
            prober,
            runtime,
        } = self;
        namespace.inside(|| {
            runtime.block_on(async {
                let deadlines = Deadlines::from_now(check.connect_timeout, check.timeout);
                prober.probe(deadlines).await
            })
        })
    }
}
