//! Which files of a configuration hold secrets.
//!
//! What is in them, and who can read them, is for `io`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Ask, Config};

impl Config {
    /// Each file once, with what names it first: `vrrp "main": key_file`.
    pub fn secret_files(&self) -> BTreeMap<PathBuf, String> {
        let of_nodes = self.vrrp.iter().flat_map(|(name, vrrp)| {
            let files = [("key_file", &vrrp.key_file), ("password_file", &vrrp.password_file)];
            files.map(|(key, path)| (path, format!("vrrp {name:?}: {key}")))
        });
        let of_checks = self.services.iter().filter_map(|(name, service)| {
            let (Ask::Postgres(database) | Ask::Mysql(database)) = &service.check.as_ref()?.ask else {
                return None;
            };
            Some((&database.password_file, format!("service {name:?}: password_file")))
        });
        let mut files = BTreeMap::new();
        for (path, named_by) in of_nodes.chain(of_checks) {
            if let Some(path) = path {
                files.entry(path.clone()).or_insert(named_by);
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use crate::core::config::parse;

    #[test]
    fn each_file_is_named_once() {
        let text = "[service.a]\nlisten = \"198.18.0.100:5432\"\nbackends = [\"198.18.1.11:5432\"]\ncheck = \"pg\"\n\
                    [service.b]\nlisten = \"198.18.0.100:5433\"\nbackends = [\"198.18.1.11:5432\"]\ncheck = \"pg\"\n\
                    [check.pg]\ntype = \"postgres\"\npassword_file = \"/etc/naru/pg\"\n\
                    [vrrp.main]\nid = 1\ninterface = \"eth0\"\naddresses = [\"198.18.0.100/24\"]\n\
                    key_file = \"/etc/naru/key\"\n";
        let config = parse("naru.toml", text).unwrap().config;
        let files: Vec<_> = config.secret_files().into_iter().collect();
        let expected = [
            ("/etc/naru/key", "vrrp \"main\": key_file"),
            ("/etc/naru/pg", "service \"a\": password_file"),
        ];
        assert_eq!(
            files,
            expected.map(|(path, named_by)| (path.into(), named_by.to_owned()))
        );
    }
}
