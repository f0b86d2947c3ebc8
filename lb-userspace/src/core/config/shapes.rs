//! The shapes values come in: lists, named sections, whole numbers, true and false.
//!
//! Knows nothing of what they hold.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::MAX_WEIGHT;
use super::reader::{At, Field, Item, Reader, Value};
use super::values;

/// A list; one without elements is an error.
#[derive(Clone, Debug)]
pub struct List<T>(pub Vec<At<T>>);

impl<T: Value> List<T> {
    fn read_elements(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let elements = item.get_ref().as_array()?;
        if elements.is_empty() {
            reader.error(&item.span(), "the list is empty", None);
        }
        let read = |element: &Item<'_>| {
            Some(At {
                value: T::read(element, reader)?,
                span: element.span(),
            })
        };
        Some(Self(elements.iter().filter_map(read).collect()))
    }
}

impl<T: Value> Value for List<T> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if item.get_ref().as_array().is_none() {
            let hint = item.get_ref().as_str().map(|text| format!("write [{text:?}]"));
            reader.wrong_type(item, "a list", hint);
        }
        Self::read_elements(item, reader)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "items": T::schema(generator) })
    }
}

/// A list, or its only element without brackets.
#[derive(Clone, Debug)]
pub struct OneOrMore<T>(pub Vec<At<T>>);

impl<T: Value> Value for OneOrMore<T> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if item.get_ref().is_array() {
            return List::read_elements(item, reader).map(|list| Self(list.0));
        }
        Some(Self(vec![At {
            value: T::read(item, reader)?,
            span: item.span(),
        }]))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [T::schema(generator), List::<T>::schema(generator)] })
    }
}

/// Sections that differ by their name only. One that could not be read still occupies its name.
#[derive(Clone, Debug)]
pub struct Sections<T>(pub BTreeMap<String, Field<T>>);

impl<T> Sections<T> {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// In the file's order.
    pub fn in_order(&self) -> Vec<(&str, &At<T>)> {
        let mut sections: Vec<_> = self
            .0
            .iter()
            .filter_map(|(name, field)| Some((name.as_str(), field.given()?)))
            .collect();
        sections.sort_by_key(|(_, section)| section.span.start);
        sections
    }
}

impl<T: Value> Value for Sections<T> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let mut sections = BTreeMap::new();
        for (key, value) in reader.table(item)? {
            let name = key.get_ref().as_ref();
            reader.within(name, |reader| {
                if let Err(wrong) = values::name(name) {
                    reader.error(&key.span(), wrong.message, wrong.hint);
                }
                sections.insert(name.to_owned(), Field::read(value, reader));
            });
        }
        Some(Self(sections))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let names = values::NAME_PATTERN;
        json_schema!({
            "type": "object",
            "patternProperties": { names: T::schema(generator) },
            "additionalProperties": false,
        })
    }

    fn absorb(&mut self, misspelt: &Item<'_>) {
        for (name, _) in misspelt.get_ref().as_table().into_iter().flatten() {
            self.0.entry(name.get_ref().to_string()).or_insert(Field::Wrong);
        }
    }
}

/// Values by names of the writer's own.
#[derive(Clone, Debug)]
pub struct Entries<T>(pub Vec<(At<String>, Field<T>)>);

impl<T: Value> Value for Entries<T> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let mut entries = Vec::new();
        for (key, value) in reader.table(item)? {
            let name = At {
                value: key.get_ref().to_string(),
                span: key.span(),
            };
            let value = reader.within(&name.value, |reader| Field::read(value, reader));
            entries.push((name, value));
        }
        Some(Self(entries))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": T::schema(generator) })
    }
}

impl Value for bool {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let value = item.get_ref().as_bool();
        if value.is_none() {
            reader.wrong_type(item, "true or false", None);
        }
        value
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const MIN: i64, const MAX: i64>(pub i64);

impl<const MIN: i64, const MAX: i64> Value for Int<MIN, MAX> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let DeValue::Integer(number) = item.get_ref() else {
            let hint = item.get_ref().as_str().filter(|text| text.parse::<i64>().is_ok());
            reader.wrong_type(
                item,
                "a whole number",
                hint.map(|text| format!("write {text} without quotes")),
            );
            return None;
        };
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                reader.error(
                    &item.span(),
                    format!("{number} is out of range"),
                    format!("{MIN} to {MAX}"),
                );
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// Weights by the name of a backend.
#[derive(Clone, Debug)]
pub struct Weights(pub Vec<Weight>);

#[derive(Clone, Debug)]
pub struct Weight {
    pub backend: At<String>,
    /// None: an error was reported.
    pub weight: Option<u16>,
}

const HEAVIEST: i64 = MAX_WEIGHT as i64;

impl Value for Weights {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let mut weights = Vec::new();
        for (key, value) in reader.table(item)? {
            let name = key.get_ref().as_ref();
            let weight = reader.within(name, |reader| Int::<0, HEAVIEST>::read(value, reader));
            let weight = weight.and_then(|weight| u16::try_from(weight.0).ok());
            weights.push(Weight {
                backend: At {
                    value: name.to_owned(),
                    span: key.span(),
                },
                weight,
            });
        }
        Some(Self(weights))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": Int::<0, HEAVIEST>::schema(generator) })
    }
}
