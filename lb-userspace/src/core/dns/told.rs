//! What has changed about one name, in words.

use super::{Change, News, Question, Rank, Record};

/// What has changed, before it is said of which name.
#[derive(Debug, Default)]
pub struct Told {
    pub members: bool,
    pub texts: Vec<String>,
}

impl Told {
    pub fn of(self, question: &Question) -> Change {
        let news = |text| News {
            question: question.clone(),
            text,
        };
        Change {
            members: self.members,
            news: self.texts.into_iter().map(news).collect(),
        }
    }

    pub fn joined(&mut self, records: &[Record]) {
        if !records.is_empty() {
            self.members = true;
            self.texts.push(format!("{} from now on", list(records)));
        }
    }

    pub fn ranked(&mut self, record: &Record, rank: Rank) {
        self.members = true;
        self.texts.push(format!("{record} has {rank} now"));
    }

    pub fn left(&mut self, records: &[Record]) {
        if !records.is_empty() {
            self.members = true;
            self.texts.push(format!("{} no more", list(records)));
        }
    }
}

fn list(records: &[Record]) -> String {
    let words: Vec<String> = records.iter().map(ToString::to_string).collect();
    words.join(", ")
}
