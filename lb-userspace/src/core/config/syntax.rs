//! Text to TOML tree, with every syntax error of the text in a reader's words.
//!
//! The parser stops at some errors and misreads what follows others. A missing `=`, `]` or quote is therefore put
//! in, so that the rest of the file is read as it was meant; the error is reported all the same. Of a text that is no
//! configuration, only the beginning is read: each error costs the parser 100 bytes and more. Knows nothing of sections
//! and keys.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::diagnostic::{Report, Span};

/// Each costs reading the file a few times.
const MOST_REPAIRS: usize = 20;
/// A text with more errors is not a configuration with slips in it.
const MOST_ERRORS: usize = 50;
/// So many bytes are read for repairs of a large text.
const MOST_REREAD: usize = 4 * 1024 * 1024;
/// After a beginning with more errors than this nothing is read.
const MOST_READ: usize = 200;
/// How much of a text is tried first; then four times as much each time.
const BEGINNING: usize = 16 * 1024;
const TOKENS: [&str; 7] = ["=", ",", "]", "]]", "}", "\"", "'"];

/// The text with the tokens it lacks.
pub struct Repaired {
    pub text: String,
    /// In the order of the text.
    pub insertions: Vec<Insertion>,
    /// It is only the beginning of what is no configuration.
    pub is_cut: bool,
}

/// Where something was put in, as an offset in the repaired text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Insertion {
    pub at: usize,
    pub token: &'static str,
}

pub fn repair(text: &str) -> Repaired {
    let beginning = readable(text);
    let mut repaired = Repaired {
        text: beginning.to_owned(),
        insertions: Vec::new(),
        is_cut: beginning.len() < text.len(),
    };
    let mut in_vain = BTreeSet::new();
    let mut errors = errors(&repaired.text);
    let mut left_to_reread = MOST_REREAD;
    for _ in 0..MOST_REPAIRS {
        let lacking = errors
            .iter()
            .filter_map(lacks)
            .find(|lacking| !in_vain.contains(lacking));
        let Some(lacking) = lacking.filter(|_| errors.len() <= MOST_ERRORS) else {
            break;
        };
        let Some(left) = left_to_reread.checked_sub(repaired.text.len()) else {
            break;
        };
        left_to_reread = left;
        let tried = candidates(&repaired.text, lacking).map(|insertion| {
            let mut text = repaired.text.clone();
            text.insert_str(insertion.at, insertion.token);
            let left = self::errors(&text);
            (insertion, text, left)
        });
        let best = tried.filter(|(insertion, _, left)| helps(*insertion, errors.len(), left));
        let Some((insertion, text, left)) = best.min_by_key(|(_, _, left)| left.len()) else {
            in_vain.insert(lacking);
            continue;
        };
        repaired.insert(insertion, text);
        errors = left;
        in_vain.clear();
    }
    repaired
}

/// The text, or the beginning of it that shows that it is no configuration.
fn readable(text: &str) -> &str {
    let mut length = BEGINNING;
    while length < text.len() {
        let bytes = &text.as_bytes()[..length];
        let is_end = |at: &usize| text.is_char_boundary(*at);
        let line_end = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let end = line_end.or_else(|| (0..=length).rev().find(is_end)).unwrap_or_default();
        if errors(&text[..end]).len() > MOST_READ {
            return &text[..end];
        }
        length *= 4;
    }
    text
}

impl Repaired {
    fn insert(&mut self, insertion: Insertion, text: String) {
        for earlier in &mut self.insertions {
            if earlier.at >= insertion.at {
                earlier.at += insertion.token.len();
            }
        }
        self.insertions.push(insertion);
        self.insertions.sort();
        self.text = text;
    }
}

/// Where a comma seems to be missing before a new statement, it is rather the end of the one before.
fn candidates(text: &str, lacking: Insertion) -> impl Iterator<Item = Insertion> {
    let line_start = text[..lacking.at].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let is_first = text[line_start..lacking.at].trim().is_empty();
    let ends: &[&'static str] = if lacking.token == "," && is_first && is_statement(line) {
        &["]", "}"]
    } else {
        &[]
    };
    let at = text[..lacking.at].trim_end().len();
    ends.iter().map(move |token| Insertion { at, token }).chain([lacking])
}

fn is_statement(line: &str) -> bool {
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.\"' ".contains(c));
    line.trim_start().starts_with('[') || line.split_once('=').is_some_and(|(key, _)| is_key(key))
}

/// Behind a missing `=` the parser reads nothing, so that there may be more errors once it is there.
fn helps(insertion: Insertion, before: usize, left: &[Error]) -> bool {
    let behind = Insertion {
        at: insertion.at + insertion.token.len(),
        ..insertion
    };
    match insertion.token {
        "=" => !left.iter().filter_map(lacks).any(|lacking| lacking == behind),
        _ => left.len() < before,
    }
}

pub fn parse<'t>(repaired: &'t Repaired, report: &mut Report<'_>) -> Spanned<DeTable<'t>> {
    let mut ends = BTreeSet::new();
    for Insertion { at, token } in &repaired.insertions {
        let end = at + token.len();
        report.damaged_value(&(*at..end), format!("`{token}` is missing"), None);
        ends.insert(end);
    }
    let (tree, _) = DeTable::parse_recoverable(&repaired.text);
    for error in errors(&repaired.text) {
        let span = error.span().unwrap_or(0..0);
        // What is wrong right behind an insertion is part of the same mistake.
        if !ends.contains(&span.start) {
            explain(&error, &span, &repaired.text, report);
        }
    }
    tree
}

fn errors(text: &str) -> Vec<Error> {
    let (_, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    errors
}

fn lacks(error: &Error) -> Option<Insertion> {
    let (_, expected) = error.message().split_once(", expected `")?;
    let token = TOKENS
        .into_iter()
        .find(|token| expected.strip_suffix('`') == Some(token))?;
    let span = error.span().filter(Span::is_empty)?;
    Some(Insertion { at: span.start, token })
}

fn explain(error: &Error, span: &Span, text: &str, report: &mut Report<'_>) {
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let scalar = unquoted(text, span);
    match (what, expected) {
        ("duplicate key", _) => {
            let key = text.get(span.clone()).unwrap_or_default();
            report.error(span, format!("`{key}` is given twice"), "remove one of them".to_owned());
        }
        ("string values must be quoted", _) if scalar.is_empty() => {
            report.damaged_value(
                span,
                "the value is missing".to_owned(),
                Some("write key = value".to_owned()),
            );
        }
        (_, Some("literal string" | "nothing")) if !scalar.is_empty() => {
            let value = text.get(scalar.clone()).unwrap_or_default();
            report.damaged_value(
                &scalar,
                format!("`{value}` needs quotes"),
                Some(format!("write {value:?}")),
            );
        }
        (_, Some(expected)) => report.damaged_line(span, what.to_owned(), Some(format!("expected {expected}"))),
        (_, None) => report.damaged_line(span, what.to_owned(), None),
    }
}

/// The whole value that has no quotes, of which the parser may mark a part only.
fn unquoted(text: &str, span: &Span) -> Span {
    let ends = |c: char| c.is_whitespace() || "=,[]{}#\"'".contains(c);
    let before = text.get(..span.start).unwrap_or_default();
    let after = text.get(span.end..).unwrap_or_default();
    let start = before
        .rfind(ends)
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let end = span.end + after.find(ends).unwrap_or(after.len());
    start..end
}
