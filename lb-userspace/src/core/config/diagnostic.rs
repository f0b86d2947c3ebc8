//! What is wrong in a file, where, and what to do about it.
//!
//! It never decides what is wrong, and never prints.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::kept::{Draft, Kept, MOST};
use super::positions::Positions;
use super::syntax::Repaired;

/// Longer words are no slip of a known one: names have 64 characters at most.
const LONGEST_MEANT: usize = 512;

/// Bytes of the file.
pub type Span = Range<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub file: String,
    /// Line and column begin at 1; a column is a character.
    pub line: usize,
    pub column: usize,
    pub severity: Severity,
    /// Names the object first: `service "web": every weight is 0, so nobody would serve it`.
    pub message: String,
    pub hint: Option<String>,
    /// How many mistakes it stands for: 1, or those beyond the first hundred.
    pub count: usize,
    #[serde(skip)]
    pub span: Span,
}

impl Diagnostic {
    /// `naru.toml:14:11 service "web": …`
    pub fn placed(&self) -> String {
        format!("{}:{}:{} {}", self.file, self.line, self.column, self.message)
    }

    /// The line everybody sees first; editors and grep know its shape.
    pub fn headline(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        format!("{}:{}:{} {severity}{}", self.file, self.line, self.column, self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The diagnostics of one file, as they are found.
///
/// Spans are those of the repaired text; what goes out is of the file.
pub struct Report<'a> {
    file: &'a str,
    repaired: &'a Repaired,
    positions: Positions,
    errors: Kept,
    warnings: Kept,
    /// What could not be read as TOML, by its start: nothing more is said about it.
    damage: BTreeMap<usize, Damage>,
}

struct Damage {
    end: usize,
    /// A key may be lost here; else only its value is in doubt.
    loses_keys: bool,
}

impl<'a> Report<'a> {
    pub fn new(file: &'a str, repaired: &'a Repaired) -> Self {
        Self {
            file,
            repaired,
            positions: Positions::new(&repaired.text),
            errors: Kept::default(),
            warnings: Kept::default(),
            damage: BTreeMap::new(),
        }
    }

    pub fn error(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        if !self.is_damaged(span.start) {
            self.errors.add(draft(span, message, hint));
        }
    }

    pub fn warning(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.warnings.add(draft(span, message, hint));
    }

    /// A value that was understood although it is not TOML.
    pub fn damaged_value(&mut self, span: &Span, message: String, hint: Option<String>) {
        self.error(span, message, hint);
        self.damage.insert(
            span.start,
            Damage {
                end: span.end.max(span.start + 1),
                loses_keys: false,
            },
        );
    }

    /// A line that was not understood.
    pub fn damaged_line(&mut self, span: &Span, message: String, hint: Option<String>) {
        self.error(span, message, hint);
        let line = self.positions.line(&self.repaired.text, span.start);
        self.damage.insert(
            line.start,
            Damage {
                end: line.end + 1,
                loses_keys: true,
            },
        );
    }

    /// Whether a key that seems to be missing in this section may stand in a damaged line.
    pub fn may_have_lost_keys(&self, header: &Span) -> bool {
        let next = self.positions.next_header(header.end);
        let end = next.unwrap_or(self.repaired.text.len());
        self.damage
            .range(header.start..=end)
            .any(|(_, damage)| damage.loses_keys)
    }

    pub fn diagnostic(&self, severity: Severity, span: &Span, message: String, hint: Option<String>) -> Diagnostic {
        let (line, column) = self.position(span.start);
        Diagnostic {
            file: self.file.to_owned(),
            line,
            column,
            severity,
            message,
            hint,
            count: 1,
            span: span.start - self.inserted(0..span.start)..span.end - self.inserted(0..span.end),
        }
    }

    /// `12:10`, to speak of another place of the same file.
    pub fn place(&self, span: &Span) -> String {
        let (line, column) = self.position(span.start);
        format!("{line}:{column}")
    }

    /// Looking for the nearest name costs time; a file with this many errors is not helped by it.
    pub fn wants_suggestions(&self) -> bool {
        self.errors.found() < MOST
    }

    pub fn has_errors(&self) -> bool {
        self.errors.found() > 0
    }

    /// In the file's order: the first hundred errors and the first hundred warnings, and how many there are beyond.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        let errors = std::mem::take(&mut self.errors);
        let warnings = std::mem::take(&mut self.warnings);
        let mut found = self.told(Severity::Error, errors);
        found.extend(self.told(Severity::Warning, warnings));
        if self.repaired.is_cut {
            let end = self.repaired.text.len();
            let message = "with so many errors this is no configuration: nothing from here on was looked at";
            found.push(self.diagnostic(Severity::Error, &(end..end), message.to_owned(), None));
        }
        found.sort_by_key(|found| found.span.start);
        found
    }

    fn told(&self, severity: Severity, kept: Kept) -> Vec<Diagnostic> {
        let (first, beyond) = kept.into_parts();
        let diagnostic = |draft: Draft| self.diagnostic(severity, &draft.span, draft.message, draft.hint);
        let mut told: Vec<Diagnostic> = first.map(diagnostic).collect();
        told.extend(beyond.map(|(count, place)| {
            let what = match severity {
                Severity::Error => "errors",
                Severity::Warning => "warnings",
            };
            let message = format!("from here on {count} more {what} are not shown");
            Diagnostic {
                count,
                ..self.diagnostic(severity, &(place..place), message, None)
            }
        }));
        told
    }

    fn is_damaged(&self, at: usize) -> bool {
        self.damage
            .range(..=at)
            .next_back()
            .is_some_and(|(_, damage)| at < damage.end)
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let text = &self.repaired.text;
        let start = self.positions.line(text, at).start;
        let before = self.positions.characters(text, at) - self.positions.characters(text, start);
        (self.positions.line_number(at), before - self.inserted(start..at) + 1)
    }

    /// How many bytes, each a character, are not in the file.
    fn inserted(&self, span: Span) -> usize {
        let insertions = self.repaired.insertions.iter();
        let inserted = insertions.filter(|insertion| insertion.at >= span.start && insertion.at < span.end);
        inserted.map(|insertion| insertion.token.len()).sum()
    }
}

fn draft(span: &Span, message: impl Into<String>, hint: impl Into<Option<String>>) -> Draft {
    Draft {
        span: span.clone(),
        message: message.into(),
        hint: hint.into(),
    }
}

/// How the object a section describes is called: `service "web"`, `[node]`.
pub fn subject(section: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{section} {name:?}"),
        None => format!("[{section}]"),
    }
}

/// `did you mean` where one of the names is near, else all that there are.
pub fn suggest<'a>(
    report: &Report<'_>,
    wrong: &str,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<String> {
    if !report.wants_suggestions() {
        return None;
    }
    let names: Vec<&str> = names.collect();
    match nearest(wrong, &names) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if names.is_empty() => None,
        None if names.len() <= 20 => Some(format!("{what}: {}", names.join(", "))),
        None => Some(format!(
            "{what}: {} and {} more",
            names[..20].join(", "),
            names.len() - 20
        )),
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    // Nothing known is so long, and to compare it would take its time.
    if wrong.len() > LONGEST_MEANT {
        return None;
    }
    let length = wrong.chars().count();
    let (distance, name) = names
        .iter()
        .map(|name| (strsim::osa_distance(wrong, name), *name))
        .min()?;
    (distance < length && distance <= 1.max(length / 3)).then_some(name)
}
