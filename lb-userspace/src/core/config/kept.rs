//! The first diagnostics of a file, by their place in it, and how many there are beyond.
//!
//! However many mistakes a file has, this holds no more than a person reads. Tested in `tests/many.rs`.

use std::collections::BTreeMap;

use super::diagnostic::Span;

/// So many errors are told of a file, and as many warnings.
pub const MOST: usize = 100;
/// So many characters of a message or a hint are told; a file may quote a line of a megabyte.
const MOST_CHARACTERS: usize = 300;
/// Of these, so many are its end, which says what is wrong with what stands before.
const END: usize = 100;

/// What is wrong, and where.
pub struct Draft {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Default)]
pub struct Kept {
    /// By place, then in the order they were found.
    first: BTreeMap<(usize, usize), Draft>,
    found: usize,
    /// The place of the first beyond.
    beyond: Option<usize>,
}

impl Kept {
    pub fn add(&mut self, Draft { span, message, hint }: Draft) {
        self.found += 1;
        let draft = Draft {
            message: clipped(message),
            hint: hint.map(clipped),
            span,
        };
        self.first.insert((draft.span.start, self.found), draft);
        if self.first.len() > MOST
            && let Some(((place, _), _)) = self.first.pop_last()
        {
            self.beyond = Some(self.beyond.map_or(place, |before| before.min(place)));
        }
    }

    /// How many there are in all.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Those kept, how many there are beyond, and where the first of these is.
    pub fn into_parts(self) -> (impl Iterator<Item = Draft>, Option<(usize, usize)>) {
        let more = self.found - self.first.len();
        (self.first.into_values(), self.beyond.map(|place| (more, place)))
    }
}

fn clipped(text: String) -> String {
    // No text has more characters than bytes.
    let characters = if text.len() <= MOST_CHARACTERS {
        0
    } else {
        text.chars().count()
    };
    if characters <= MOST_CHARACTERS {
        return text;
    }
    let beginning: String = text.chars().take(MOST_CHARACTERS - END).collect();
    let end: String = text.chars().skip(characters - END).collect();
    format!("{beginning} … {end}")
}
