//! The world's part in the names of backends: what is to be asked, and what follows when a name has other addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use lb_common::abi::BackendId;

use super::{Moment, World};
use crate::core::condition::State;
use crate::core::config::{Backend, Config};
use crate::core::dns::{Answer, Change, Names, Question, Record};
use crate::core::journal::What;
use crate::core::members::Name;
use crate::core::timestamp::rfc3339;

impl World {
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Questions that the caller is to ask now; each is told once, and to be answered by `Event::Resolved`.
    pub fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// Whom to ask; None: those of the system.
    pub fn name_servers(&self) -> Option<&[SocketAddr]> {
        self.applied.as_ref()?.file.config.dns.servers.as_deref()
    }

    /// The backends of the file that the name is asked for.
    pub fn backends_of(&self, question: &Question) -> Vec<Name> {
        let config = self.applied.iter().map(|applied| &applied.file.config);
        let behind = self.names.behind(question);
        config
            .flat_map(|config| behind.iter().flat_map(|question| backends_of(config, question)))
            .collect()
    }

    /// Why the addresses that names have now are not all backends.
    pub fn overcrowded(&self) -> Option<&str> {
        self.overcrowded.as_deref()
    }

    /// Why a backend that is down stays one, whatever has become of its name.
    pub fn held(&self, backend: BackendId) -> Option<String> {
        let dns = &self.applied.as_ref()?.file.config.dns;
        let member = self.members.backends.get(&backend)?;
        let down = self.conditions.get(&backend)?.state == State::Down && member.leaving.is_none();
        let question = self.question_of(member.name.as_ref().filter(|_| down)?)?;
        let (answer, until) = self.names.passed_on(&question, member.address.ip())?;
        // Else it is asked about again soon enough.
        (answer.ttl > dns.min_ttl).then(|| {
            let (server, until) = (answer.server, rfc3339(until));
            format!("{server} passes on what it has kept of the name, and may until {until}, whatever has changed")
        })
    }

    /// True: who is a backend has changed.
    pub(super) fn resolved(&mut self, question: &Question, answer: Answer, now: Moment) -> bool {
        let Some(applied) = &self.applied else { return false };
        let dns = &applied.file.config.dns;
        let change = self.names.answered(question, answer, dns, now);
        self.take_up(change, now)
    }

    /// Lets addresses go that names had; true: some went.
    pub(super) fn let_addresses_go(&mut self, now: Moment) -> bool {
        let mut names = std::mem::take(&mut self.names);
        let change = names.let_go(|names, question, record| self.is_ready(names, question, record), now);
        self.names = names;
        self.take_up(change, now)
    }

    /// What the interfaces must reach beside the addresses of the file.
    pub(super) fn addresses_of_names(&self) -> BTreeSet<IpAddr> {
        self.names.all_addresses().collect()
    }

    /// A backend may be in trouble: if it has a name, that may have moved.
    pub(super) fn doubt_name(&mut self, backend: BackendId, now: Instant) {
        let member = self
            .members
            .backends
            .get(&backend)
            .filter(|member| member.leaving.is_none());
        let Some(member) = member else { return };
        if let Some(question) = member.name.as_ref().and_then(|name| self.question_of(name)) {
            self.names.doubt(&question, member.address.ip(), now);
        }
    }

    /// Who waits for those in its place to be judged waits no longer.
    fn is_ready(&self, names: &Names, question: &Question, record: &Record) -> bool {
        let addresses = names.addresses_behind(question, record);
        let behind = names.behind(question);
        let port = record.target().map(|target| target.port);
        let mut led_to = self.members.backends.iter().filter(|(_, member)| {
            let name = member.name.as_ref().filter(|_| member.leaving.is_none());
            let asked_for = name.and_then(|name| self.question_of(name));
            addresses.contains(&member.address.ip())
                && port.is_none_or(|port| member.address.port() == port)
                && asked_for.is_some_and(|asked_for| behind.contains(&&asked_for))
        });
        // A target that nobody has found yet is not ready.
        !addresses.is_empty()
            && led_to.all(|(id, _)| {
                let state = self.conditions.get(id).map(|condition| condition.state);
                !matches!(state, Some(State::Checking | State::Down))
            })
    }

    /// What is asked about a backend that has a name.
    pub fn question_of(&self, name: &Name) -> Option<Question> {
        let config = &self.applied.as_ref()?.file.config;
        config.services.get(&name.service)?.question(config.backend(name)?)
    }

    pub(super) fn take_up(&mut self, Change { members, news }: Change, now: Moment) -> bool {
        let Some(applied) = &self.applied else { return false };
        let config = &applied.file.config;
        for news in &news {
            for name in self.backends_of(&news.question) {
                let text = format!("{}: {}", news.question.host, news.text);
                self.journal.write(now.wall, What::Resolved { name, text });
            }
        }
        if members {
            let enlisted = self.members.enlist(config, &self.names, now.wall);
            self.overcrowded = enlisted.err().map(|error| error.to_string());
            self.watch(now);
        }
        members
    }
}

fn backends_of(config: &Config, question: &Question) -> Vec<Name> {
    let backends = config.services.iter().flat_map(|(name, service)| {
        let asked = move |backend: &&Backend| service.question(backend).as_ref() == Some(question);
        service.backends.iter().filter(asked).map(move |backend| Name {
            service: name.clone(),
            backend: backend.name.clone(),
        })
    });
    backends.collect()
}
