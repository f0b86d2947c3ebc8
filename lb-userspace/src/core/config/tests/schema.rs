//! The schema editors use says what the reader does.

use serde_json::Value;

use super::super::json_schema;
use super::found;

#[test]
fn the_checked_in_schema_is_current() {
    let checked_in = include_str!("../../../../../config/naru.schema.json");
    assert!(
        checked_in == json_schema(),
        "config/naru.schema.json is not current: run `cargo xtask schema`"
    );
}

#[test]
fn each_key_of_the_schema_is_known_and_described() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mut keys = 0;
    for (section, schema) in schema["properties"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{section}");
        let named = schema
            .get("patternProperties")
            .and_then(|names| names.as_object()?.values().next());
        let header = if named.is_some() {
            format!("[{section}.x]")
        } else {
            format!("[{section}]")
        };
        for (key, schema) in named.unwrap_or(schema)["properties"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{section}.{key}");
            let found = found(&format!("{header}\n{key} = true\n"));
            assert!(
                !found.iter().any(|line| line.contains("unknown")),
                "{section}.{key}: {found:?}"
            );
            let of_key = |line: &&String| line.starts_with("2:") && line.contains(&format!(": {key}: must be"));
            let takes_true = schema["type"] == "boolean";
            assert_eq!(
                found.iter().filter(of_key).count(),
                usize::from(!takes_true),
                "{section}.{key}: {found:?}"
            );
            keys += 1;
        }
    }
    assert!(keys > 50, "{keys}");
}

#[test]
fn what_must_be_there_is_in_the_schema() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let service = &schema["properties"]["service"]["patternProperties"]["^[A-Za-z0-9._-]{1,64}$"];
    assert_eq!(service["required"], serde_json::json!(["listen", "backends"]));
    assert_eq!(service["additionalProperties"], false);
    assert_eq!(
        service["properties"]["mode"]["enum"],
        serde_json::json!(["nat", "dsr-l2", "dsr-ipip"])
    );
}
