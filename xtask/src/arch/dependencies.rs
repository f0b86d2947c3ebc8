//! Which crate of the workspace may know which: `lb-ebpf -> lb-common <- lb-userspace <- tests`.

use toml::{Table, Value};

use super::Broken;

/// Each crate with those of the workspace it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("bpf-builder", &[]),
    ("lb-common", &[]),
    ("lb-ebpf", &["lb-common"]),
    ("lb-userspace", &["lb-common", "bpf-builder"]),
    (
        "lb-tests",
        &["lb-common", "lb-userspace", "lb-tests-bpf", "bpf-builder"],
    ),
    ("lb-tests-bpf", &["lb-common"]),
    ("lb-fuzz", &["lb-tests"]),
    ("xtask", &["bpf-builder"]),
];

pub fn check(manifest: &str) -> Vec<Broken> {
    let table: Table = match manifest.parse() {
        Ok(table) => table,
        Err(error) => {
            return vec![Broken {
                line: 1,
                what: format!("not a manifest: {error}"),
            }];
        }
    };
    let Some(name) = table
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str)
    else {
        return Vec::new();
    };
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        let what = format!("crate {name} has no place in the order of crates (xtask/src/arch/dependencies.rs)");
        return vec![Broken { line: 1, what }];
    };
    let in_workspace = |dependency: &&str| ALLOWED.iter().any(|(known, _)| known == dependency);
    let mut broken = Vec::new();
    for dependency in dependencies(&table).into_iter().filter(in_workspace) {
        if !allowed.contains(&dependency) {
            let line = 1 + manifest
                .lines()
                .take_while(|line| !line.trim_start().starts_with(dependency))
                .count();
            let what = format!("{name} must not depend on {dependency}: crates know those below them only");
            broken.push(Broken { line, what });
        }
    }
    broken
}

/// Of every kind and for every target.
fn dependencies(table: &Table) -> Vec<&str> {
    let targets = table
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values);
    let tables = [table].into_iter().chain(targets.filter_map(Value::as_table));
    let kinds = |table| {
        let kinds = ["dependencies", "dev-dependencies", "build-dependencies"].into_iter();
        kinds.filter_map(move |kind| Table::get(table, kind).and_then(Value::as_table))
    };
    tables
        .flat_map(kinds)
        .flat_map(Table::keys)
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(manifest: &str) -> Vec<(usize, String)> {
        check(manifest)
            .into_iter()
            .map(|broken| (broken.line, broken.what))
            .collect()
    }

    #[test]
    fn a_crate_knows_only_those_below_it() {
        let good = "[package]\nname = 'lb-ebpf'\n[dependencies]\nlb-common.workspace = true\naya-ebpf = '1'\n";
        assert!(broken(good).is_empty());
        let upwards = "[package]\nname = 'lb-common'\n[dependencies]\nlb-userspace.workspace = true\n";
        assert_eq!(broken(upwards)[0].0, 4);
        let hidden =
            "[package]\nname = 'lb-userspace'\n[target.'cfg(unix)'.dev-dependencies]\nlb-tests = { path = '.' }\n";
        assert_eq!(broken(hidden)[0].0, 4);
        let built = "[package]\nname = 'xtask'\n[build-dependencies]\nlb-common = { workspace = true }\n";
        assert_eq!(broken(built).len(), 1);
    }

    #[test]
    fn a_new_crate_is_given_its_place() {
        assert_eq!(broken("[package]\nname = 'lb-new'\n").len(), 1);
        assert!(broken("[workspace]\nmembers = []\n").is_empty());
    }
}
