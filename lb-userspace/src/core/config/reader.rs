//! Walks the TOML tree, writes down every error with its position, and goes on.
//!
//! What a value means beyond its own text is not judged here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Report, Span, nearest, subject, suggest};

pub type Item<'a> = Spanned<DeValue<'a>>;

/// A value of the file: how it is read, and what the schema says of it.
pub trait Value: Sized {
    /// None: an error was reported.
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self>;
    fn schema(generator: &mut SchemaGenerator) -> Schema;
    /// More of this value stands under a misspelt key, which has been reported.
    fn absorb(&mut self, _misspelt: &Item<'_>) {}
}

#[derive(Clone, Debug)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
}

/// What a key holds.
#[derive(Clone, Debug, Default)]
pub enum Field<T> {
    #[default]
    Absent,
    /// Given, and an error was reported: nothing may be concluded from it.
    Wrong,
    Given(At<T>),
}

impl<T> Field<T> {
    pub fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Value> Field<T> {
    pub fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Self {
        match T::read(item, reader) {
            Some(value) => Self::Given(At {
                value,
                span: item.span(),
            }),
            None => Self::Wrong,
        }
    }

    /// Keeps the consequences of a misspelt key from being reported as well.
    pub fn absorb(&mut self, misspelt: &Item<'_>) {
        match self {
            Self::Absent => *self = Self::Wrong,
            Self::Wrong => {}
            Self::Given(at) => at.value.absorb(misspelt),
        }
    }
}

impl<T: Value> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Field".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// Reports errors under the name of the object and key that is being read.
pub struct Reader<'r, 'a> {
    pub report: &'r mut Report<'a>,
    path: Vec<String>,
}

impl<'r, 'a> Reader<'r, 'a> {
    pub fn new(report: &'r mut Report<'a>) -> Self {
        Self {
            report,
            path: Vec::new(),
        }
    }

    pub fn error(&mut self, span: &Span, message: impl AsRef<str>, hint: impl Into<Option<String>>) {
        let message = match self.place() {
            Some(place) => format!("{place}: {}", message.as_ref()),
            None => message.as_ref().to_owned(),
        };
        self.report.error(span, message, hint);
    }

    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let value = read(self);
        self.path.pop();
        value
    }

    pub fn table<'n, 't>(&mut self, item: &'n Item<'t>) -> Option<&'n DeTable<'t>> {
        let table = item.get_ref().as_table();
        if table.is_none() {
            let hint = match self.path.as_slice() {
                [section] => Some(format!("write it as a section: [{section}]")),
                [section, name] => Some(format!("write it as a section: [{section}.{name}]")),
                _ => None,
            };
            self.wrong_type(item, "a table", hint);
        }
        table
    }

    pub fn string<'n>(&mut self, item: &'n Item<'_>) -> Option<&'n str> {
        let string = item.get_ref().as_str();
        if string.is_none() {
            let hint = match item.get_ref() {
                DeValue::Integer(number) => Some(format!("write \"{number}\"")),
                DeValue::Float(number) => Some(format!("write \"{number}\"")),
                _ => None,
            };
            self.wrong_type(item, "a string", hint);
        }
        string
    }

    /// A string that `parse` makes something of.
    pub fn parsed<T>(&mut self, item: &Item<'_>, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.string(item)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.error(&item.span(), wrong.message, wrong.hint);
                None
            }
        }
    }

    pub fn wrong_type(&mut self, item: &Item<'_>, expected: &str, hint: Option<String>) {
        let found = match item.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(&item.span(), format!("must be {expected}, not {found}"), hint);
    }

    /// Returns the key that was probably meant.
    pub fn unknown_key(&mut self, key: &Spanned<Cow<'_, str>>, known: &[&'static str]) -> Option<&'static str> {
        let word = key.get_ref().as_ref();
        let what = if self.path.is_empty() { "section" } else { "key" };
        let hint = suggest(self.report, word, &format!("known {what}s"), known.iter().copied());
        self.error(&key.span(), format!("unknown {what} `{}`", word.escape_debug()), hint);
        // Beyond so many errors one that follows from another is of no account.
        let meant = self.report.wants_suggestions().then(|| nearest(word, known));
        meant.flatten()
    }

    pub fn unknown_word(&mut self, item: &Item<'_>, word: &str, known: &[&str]) {
        let hint = suggest(self.report, word, "one of", known.iter().copied());
        self.error(&item.span(), format!("unknown value {word:?}"), hint);
    }

    pub fn require<T>(&mut self, field: &Field<T>, header: &Span, key: &str, example: &str) {
        if field.is_absent() && !self.report.may_have_lost_keys(header) {
            self.error(header, format!("`{key}` is missing"), format!("add {key} = {example}"));
        }
    }

    /// `service "web": weights.rack`.
    fn place(&self) -> Option<String> {
        let (section, rest) = self.path.split_first()?;
        let is_named = NAMED_SECTIONS.contains(&section.as_str());
        let (name, keys) = match rest.split_first() {
            Some((name, keys)) if is_named => (Some(name.as_str()), keys),
            _ => (None, rest),
        };
        let object = subject(section, name);
        if keys.is_empty() {
            Some(object)
        } else {
            Some(format!("{object}: {}", keys.join(".")))
        }
    }
}

/// Sections of which there are many, each with a name: `[service.web]`.
pub const NAMED_SECTIONS: [&str; 5] = ["vrrp", "check", "backend", "service", "alarm"];

/// Why a string is not the value it should be.
pub struct Wrong {
    pub message: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}
