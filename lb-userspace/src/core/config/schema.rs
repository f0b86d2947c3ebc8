//! The JSON Schema of the file, for editors; made of the list of keys the reader uses.

use schemars::generate::SchemaSettings;

use super::file::File;
use super::reader::Value;

/// The text of `config/naru.schema.json`.
pub fn json_schema() -> String {
    let mut generator = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema = File::schema(&mut generator);
    schema.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    schema.insert("title".to_owned(), "Naru".into());
    format!("{:#}\n", schema.to_value())
}
