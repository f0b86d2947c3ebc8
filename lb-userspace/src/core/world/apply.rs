//! A new file comes into force: ids for its backends, names to follow, alarms, checks.

use super::shared::has_room;
use super::{Applied, Moment, World};
use crate::core::config::Parsed;

impl World {
    pub(super) fn apply(&mut self, file: Parsed, now: Moment) {
        self.refused = None;
        self.emptied.clear();
        if let Some(applied) = self
            .applied
            .as_mut()
            .filter(|applied| applied.file.config == file.config)
        {
            applied.file = file;
            return;
        }
        if let Err(error) = has_room(&file.config) {
            self.refused = Some(error);
            return;
        }
        let unserved_before = self.applied.is_some().then(|| self.unserved());
        if let Err(error) = self.members.enlist(&file.config, &self.names, now.wall) {
            self.refused = Some(error.to_string());
            return;
        }
        self.unserved_before = unserved_before;
        self.share(&file.config);
        self.fitness.follow(file.config.programs());
        self.overcrowded = None;
        let before = self.applied.as_ref().map(|applied| &applied.file.config.dns.servers);
        if before.is_some_and(|servers| *servers != file.config.dns.servers) {
            self.names.ask_anew(now.monotonic);
        }
        let recalled = self.names.follow(file.config.questions().collect(), now);
        self.confirm_overrides(&file.config, now.wall);
        self.node.get_or_insert_with(|| file.config.node.clone());
        let news = self.alarms.follow(&file.config.alarms, now);
        self.tell(news, now);
        let generation = self.applied.as_ref().map_or(1, |applied| applied.generation + 1);
        self.applied = Some(Applied {
            file,
            generation,
            at: now.wall,
        });
        self.watch(now);
        self.take_up(recalled, now);
    }
}
