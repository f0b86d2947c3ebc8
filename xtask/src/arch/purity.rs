//! What the pure parts must not name: `core` decides, from events and the time it is given.

use super::Broken;
use super::names::{Name, names};

const CORE: &str = "lb-userspace/src/core/";

/// Neighbouring words of a path, and why the core must not name them.
const REFUSED: &[(&[&str], &str)] = &[
    (&["tokio"], EFFECT),
    (&["aya"], EFFECT),
    (&["rtnetlink"], EFFECT),
    (&["rustix"], EFFECT),
    (&["libc"], EFFECT),
    (&["std", "fs"], EFFECT),
    (&["std", "env"], EFFECT),
    (&["std", "process"], EFFECT),
    (&["std", "thread"], EFFECT),
    (&["TcpListener"], EFFECT),
    (&["TcpStream"], EFFECT),
    (&["UdpSocket"], EFFECT),
    (&["UnixDatagram"], EFFECT),
    (&["UnixListener"], EFFECT),
    (&["UnixStream"], EFFECT),
    (&["Instant", "now"], CLOCK),
    (&["SystemTime", "now"], CLOCK),
    (&["HashMap"], ORDER),
    (&["HashSet"], ORDER),
    (&["crate", "io"], DIRECTION),
    (&["super", "io"], DIRECTION),
    (&["crate", "daemon"], DIRECTION),
    (&["crate", "cli"], DIRECTION),
];
const EFFECT: &str = "the core has no effects: that belongs to io";
const CLOCK: &str = "the core is given the time";
const ORDER: &str = "its order differs from run to run: use the BTree kind";
const DIRECTION: &str = "io may know core, core never io";

/// Tests, at the end of a file or in files of their own, may do as they like.
pub fn check(path: &str, text: &str) -> Vec<Broken> {
    if !path.starts_with(CORE) || path.contains("/tests/") || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for Name { line, words } in names(before_tests(text)) {
        for (refused, why) in REFUSED {
            if words.windows(refused.len()).any(|part| part == *refused) {
                broken.push(Broken {
                    line,
                    what: format!("`{}`: {why}", words.join("::")),
                });
            }
        }
    }
    broken
}

fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ").map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check("lb-userspace/src/core/plan.rs", text)
            .into_iter()
            .map(|broken| broken.line)
            .collect()
    }

    #[test]
    fn each_refused_name_is_found() {
        for (refused, _) in REFUSED {
            let path = refused.join("::");
            assert_eq!(lines(&format!("//! A.\nuse {path};\n")), [2], "{path}");
            assert_eq!(
                lines(&format!("//! A.\n\nfn a() {{ let _ = {path}(); }}\n")),
                [3],
                "{path}"
            );
        }
    }

    #[test]
    fn groups_and_longer_paths_hide_nothing() {
        assert_eq!(lines("use std::{\n    fmt,\n    fs::read,\n};"), [3]);
        assert_eq!(lines("use crate::{core::{plan}, io::{self, bpf}};"), [1, 1]);
        assert_eq!(lines("fn a(_: std::collections::HashMap<u8, u8>) {}"), [1]);
        assert_eq!(lines("let now = std::time::Instant::now();"), [1]);
    }

    #[test]
    fn what_is_no_name_or_no_core_is_left_alone() {
        assert_eq!(
            lines("//! No tokio, aya.\n// std::fs\n/* HashMap */ fn a() { \"HashMap\"; r#\"aya\"# ; }"),
            [0; 0]
        );
        assert_eq!(
            lines("use std::time::Instant;\nuse std::io::Write;\nuse super::iot;"),
            [0; 0]
        );
        assert_eq!(lines("fn a() {}\n\n#[cfg(test)]\nmod tests { use std::fs; }"), [0; 0]);
        for path in [
            "lb-userspace/src/io/bpf.rs",
            "lb-userspace/src/core/config/tests/good.rs",
        ] {
            assert!(check(path, "use std::fs;").is_empty(), "{path}");
        }
    }
}
