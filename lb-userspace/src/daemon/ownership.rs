//! The event loop's dealings with the thread that keeps shared addresses.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::sleep;

use super::Daemon;
use crate::core::config::{Config, Vrrp};
use crate::core::timestamp::rfc3339_millis;
use crate::core::vrrp::Role;
use crate::core::vrrp::command::Transition;
use crate::core::vrrp::document::VrrpDocument;
use crate::core::vrrp::packet::Password;
use crate::core::vrrp::sealed::Secrets;
use crate::core::vrrp::settings::Settings;
use crate::core::vrrp::timing::TAKEOVER;
use crate::core::world::Event;
use crate::io::hooks::Call;
use crate::io::regular_file::{ReadError, read_in_time};
use crate::io::vrrp::{News, Ownership};

/// Programs that are to hear of the last changes have so long at the end.
const HOOKS_WAIT: Duration = Duration::from_secs(3);
/// Of a key or password with its line ends, and far more.
const LONGEST_SECRET: u64 = 16 * 1024;
/// How long another node is waited for at the end before connections through this one are reset, and how long that may take.
const TAKEOVER_WAIT: Duration = Duration::from_secs(1);
const SEVER_WAIT: Duration = Duration::from_secs(2);

impl Daemon {
    /// Before anything changes in the kernel: what an earlier daemon left is not to be served by what comes.
    pub(super) async fn begin_sharing(&mut self, config: &Config) -> anyhow::Result<()> {
        let left_behind = !self.world.adopted().shared.is_empty();
        if self.ownership.is_none() && (left_behind || !config.vrrp.is_empty()) {
            let ownership = Ownership::start(self.kernel.leases()).context("share addresses")?;
            ownership.clear().await;
            self.ownership = Some(ownership);
        }
        Ok(())
    }

    /// After everything is steered: nobody's address comes before what serves it.
    pub(super) fn keep_shared(&mut self, instances: Vec<Settings>) {
        let config = self.world.applied().map(|applied| &applied.file.config);
        let programs = config.into_iter().flat_map(Config::programs).cloned();
        let programs: Vec<_> = programs.collect();
        if let Some(config) = config {
            self.secret_files.follow(config.secret_files());
        }
        self.programs.run(&programs);
        self.weigh_shared();
        if let Some(ownership) = &self.ownership {
            ownership.configure(instances, self.world.leases().clone());
        }
    }

    /// What happened until the thread ended, and who is to hear of it.
    pub(super) async fn end_sharing(&mut self) {
        if let Some(mut ownership) = self.ownership.take() {
            ownership.stop();
            let mut left = BTreeSet::new();
            while let Some(news) = ownership.last_news() {
                if let News::Moved(moved) = &news
                    && moved.from == Role::Master
                {
                    left.insert(moved.instance.clone());
                }
                self.shared_news(news);
            }
            self.sever_left(left).await;
            self.hooks.finish(HOOKS_WAIT).await;
        }
    }

    /// Resets the connections under addresses that were given up for good, when another node can have them.
    async fn sever_left(&mut self, instances: BTreeSet<Arc<str>>) {
        let configured = |name: &Arc<str>| Some(&self.world.applied()?.file.config.vrrp.get(&**name)?.settings);
        let intervals = instances
            .iter()
            .filter_map(configured)
            .map(|settings| settings.interval);
        // Whoever takes over after a farewell waits for its skew, which is shorter.
        let Some(skew) = intervals.max() else { return };
        sleep((skew + TAKEOVER).min(TAKEOVER_WAIT)).await;
        instances.iter().for_each(|instance| self.lose(instance));
        let deadline = Instant::now() + SEVER_WAIT;
        while self.sweep.is_some() && Instant::now() < deadline {
            self.sweep();
            tokio::task::yield_now().await;
        }
    }

    /// Another node has the addresses of an instance.
    fn lose(&mut self, instance: &Arc<str>) {
        self.lost.extend(self.world.leases().get(instance));
        self.begin_sweep(false);
    }

    /// What follows for shared addresses from what is known by now.
    pub(super) fn weigh_shared(&mut self) {
        let Some(ownership) = &self.ownership else { return };
        ownership.beat();
        for (instance, tracked) in self.world.take_weighed() {
            ownership.weigh(instance, tracked);
        }
    }

    pub(super) fn shared_news(&mut self, news: News) {
        let (instance, text, trouble) = match news {
            News::Moved(moved) => {
                let skips = self.notify(&moved);
                if skips {
                    self.shared_news(News::Trouble {
                        instance: moved.instance.clone(),
                        words:
                            "its notify program is slower than the changes of its role: it hears of the newest alone"
                                .to_owned(),
                    });
                }
                let Transition {
                    instance,
                    from,
                    to,
                    why,
                    ..
                } = moved;
                (instance, format!("{from} -> {to}: {why}"), to == Role::Fault)
            }
            News::Trouble { instance, words } => (instance, words, true),
            News::Lost(instance) => return self.lose(&instance),
        };
        self.happened(Event::Shared {
            instance: instance.to_string(),
            text,
            trouble,
        });
        // It changes nothing else.
        self.told.tell(&self.world);
        self.tell_sysctls();
    }

    /// Calls the program that is to hear of it; true: from now on it does not hear of all.
    fn notify(&self, moved: &Transition) -> bool {
        let config = self.world.applied().map(|applied| &applied.file.config);
        let instance = config.and_then(|config| config.vrrp.get(&*moved.instance));
        let Some(Vrrp { notify, settings, .. }) = instance.filter(|instance| !instance.notify.is_empty()) else {
            return false;
        };
        let addresses: Vec<_> = settings.addresses.iter().map(ToString::to_string).collect();
        let change = json!({
            "at": rfc3339_millis(moved.at.wall),
            "instance": &*moved.instance,
            "interface": &*settings.interface,
            "id": settings.id,
            "from": moved.from.to_string(),
            "to": moved.to.to_string(),
            "why": moved.why,
            "addresses": addresses,
        });
        self.hooks.call(Call {
            instance: moved.instance.to_string(),
            command: notify.clone(),
            input: change.to_string(),
        })
    }

    pub(super) async fn vrrp(&self) -> VrrpDocument {
        match &self.ownership {
            Some(ownership) => ownership.document().await,
            None => VrrpDocument::default(),
        }
    }

    pub(super) async fn failover(&self, name: Option<String>) -> Result<String, String> {
        let mut given_up = Vec::new();
        let mut why_not = String::new();
        for name in self.instances(name)? {
            match self
                .ownership
                .as_ref()
                .map(|ownership| ownership.failover(name.clone()))
            {
                Some(answer) => match answer.await {
                    Ok(()) => given_up.push(name),
                    Err(denied) => why_not = denied.to_string(),
                },
                None => why_not = "no address is kept yet".to_owned(),
            }
        }
        match given_up.as_slice() {
            [] => Err(why_not),
            _ => Ok(format!("given up: {}; `naru failback` ends it", given_up.join(", "))),
        }
    }

    pub(super) async fn failback(&self, name: Option<String>) -> Result<String, String> {
        let (mut back, mut denials) = (Vec::new(), Vec::new());
        for name in self.instances(name)? {
            let Some(ownership) = &self.ownership else { continue };
            match ownership.failback(name.clone()).await {
                Ok(()) => back.push(name),
                Err(denied) => denials.push(denied.to_string()),
            }
        }
        match denials.as_slice() {
            [] => Ok(format!("taken back: {}", back.join(", "))),
            _ => Err(denials.join("\n")),
        }
    }

    /// All of them, or this one.
    fn instances(&self, name: Option<String>) -> Result<Vec<String>, String> {
        let all: Vec<String> = self.world.sharing().map(str::to_owned).collect();
        match name {
            None if all.is_empty() => Err("no address is shared: the file has no [vrrp]".to_owned()),
            None => Ok(all),
            Some(name) if all.contains(&name) => Ok(vec![name]),
            Some(name) => Err(format!("no [vrrp.{name}]; there are: {}", all.join(", "))),
        }
    }
}

/// Cancel safe.
pub(super) async fn news(ownership: &mut Option<Ownership>) -> News {
    match ownership {
        Some(ownership) => ownership.news().await,
        None => std::future::pending().await,
    }
}

/// Instances as they need it, with what is not in the configuration.
pub(super) async fn with_secrets(config: &Config) -> anyhow::Result<Vec<Settings>> {
    try_join_all(config.vrrp.values().map(with_secret)).await
}

async fn with_secret(instance: &Vrrp) -> anyhow::Result<Settings> {
    let mut settings = instance.settings.clone();
    if let Some(path) = &instance.password_file {
        let what = || format!("vrrp {:?}: password_file {}", settings.name, path.display());
        let text = secret(path).await.with_context(what)?;
        let password = Password::new(text.trim_ascii_end());
        settings.format.password =
            Some(password.with_context(|| format!("{}: no password of 1 to 8 characters", what()))?);
    }
    if let Some(path) = &instance.key_file {
        let what = || format!("vrrp {:?}: key_file {}", settings.name, path.display());
        let text = secret(path).await.with_context(what)?;
        settings.secrets = Some(Secrets::read(&text).with_context(what)?);
    }
    Ok(settings)
}

async fn secret(path: &Path) -> Result<Vec<u8>, ReadError> {
    read_in_time(path, LONGEST_SECRET).await
}
