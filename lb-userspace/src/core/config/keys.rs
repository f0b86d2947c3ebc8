//! One list of keys becomes a section's struct, its reader and its JSON Schema, so they cannot differ.

/// The name of a key that is a Rust keyword, without the mark it then carries.
pub fn key_name(ident: &'static str) -> &'static str {
    ident.strip_prefix("r#").unwrap_or(ident)
}

/// The keys of a section. `key (such as "…"): Type` is a key that must be there.
macro_rules! section {
    ($(#[$about:meta])* $name:ident {
        $($(#[doc = $doc:literal])+ $key:ident $((such as $example:literal))?: $type:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: crate::core::config::reader::Field<$type>,)*
        }

        const _: () = {
            use crate::core::config::keys::key_name;
            use crate::core::config::reader::{Field, Item, Reader, Value};

            impl Value for $name {
                fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
                    let known = [$(key_name(stringify!($key))),*];
                    let mut section = Self::default();
                    let mut unknown = Vec::new();
                    for (key, value) in reader.table(item)? {
                        let name = key.get_ref().as_ref();
                        $(if name == key_name(stringify!($key)) {
                            section.$key = reader.within(name, |reader| Field::read(value, reader));
                            continue;
                        })*
                        unknown.push((key, value));
                    }
                    for (key, value) in unknown {
                        let meant = reader.unknown_key(key, &known);
                        $(if meant == Some(key_name(stringify!($key))) {
                            section.$key.absorb(value);
                        })*
                    }
                    $($(reader.require(&section.$key, &item.span(), key_name(stringify!($key)), $example);)?)*
                    Some(section)
                }

                fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    let required: &[(&str, &str)] = &[$($((key_name(stringify!($key)), $example),)?)*];
                    let required: Vec<&str> = required.iter().map(|(key, _)| *key).collect();
                    let mut schema = <Self as schemars::JsonSchema>::json_schema(generator);
                    if !required.is_empty() {
                        schema.insert("required".to_owned(), required.into());
                    }
                    schema
                }
            }
        };
    };
}
pub(super) use section;

/// A key whose value is one of a few words.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal,)* }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($variant,)* }

        const _: () = {
            use crate::core::config::reader::{Item, Reader, Value};

            impl Value for $name {
                fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
                    match reader.string(item)? {
                        $($word => Some(Self::$variant),)*
                        other => {
                            reader.unknown_word(item, other, &[$($word),*]);
                            None
                        }
                    }
                }

                fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    schemars::json_schema!({ "type": "string", "enum": [$($word),*] })
                }
            }
        };
    };
}
pub(super) use words;
