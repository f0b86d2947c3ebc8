//! How files are named, headed, and how long they get.

use super::Broken;

const LONG: usize = 400;
const EXCUSE: &str = "//! Long because: ";
/// They say nothing about what is inside, and so collect everything.
const EMPTY_NAMES: [&str; 8] = [
    "manager", "managers", "util", "utils", "helper", "helpers", "common", "misc",
];

pub fn check(path: &str, text: &str) -> Vec<Broken> {
    let mut broken = Vec::new();
    if !text.starts_with("//!") {
        broken.push(Broken {
            line: 1,
            what: "no `//!` header: it says what the file is responsible for".into(),
        });
    }
    let lines = text.lines().count();
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let excused = || {
        header
            .into_iter()
            .any(|line| line.starts_with(EXCUSE) && line.len() > EXCUSE.len())
    };
    if lines > LONG && !excused() {
        let what = format!(
            "{lines} lines, and no `{}…` in the header: split it, or say why not",
            EXCUSE
        );
        broken.push(Broken { line: LONG + 1, what });
    }
    let parts = path.trim_end_matches(".rs").split('/').flat_map(|part| part.split('_'));
    for word in parts.filter(|word| EMPTY_NAMES.contains(word)) {
        broken.push(Broken {
            line: 1,
            what: format!("`{word}` in its name: name it for what it does"),
        });
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<(usize, String)> {
        check(path, text)
            .into_iter()
            .map(|broken| (broken.line, broken.what))
            .collect()
    }

    #[test]
    fn a_file_begins_with_its_header() {
        assert!(broken("x/src/a.rs", "//! Does a.\nfn a() {}\n").is_empty());
        assert_eq!(broken("x/src/a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(broken("x/src/a.rs", "").len(), 1);
    }

    #[test]
    fn a_long_file_says_why() {
        let body = "// line\n".repeat(LONG);
        assert!(broken("x/src/a.rs", &format!("//! Does a.\n{}", &body[8..])).is_empty());
        assert_eq!(broken("x/src/a.rs", &format!("//! Does a.\n{body}"))[0].0, 401);
        assert_eq!(
            broken("x/src/a.rs", &format!("//! Does a.\n//! Long because: \n{body}")).len(),
            1
        );
        assert_eq!(
            broken("x/src/a.rs", &format!("//! Does a.\n{body}//! Long because: late\n")).len(),
            1
        );
        assert!(
            broken(
                "x/src/a.rs",
                &format!("//! Does a.\n//! Long because: one table.\n{body}")
            )
            .is_empty()
        );
    }

    #[test]
    fn names_say_something() {
        for path in [
            "x/src/util.rs",
            "x/src/flow_manager.rs",
            "x/src/common/a.rs",
            "x/src/helpers/mod.rs",
        ] {
            assert_eq!(broken(path, "//! Does a.\n").len(), 1, "{path}");
        }
        for path in ["lb-common/src/abi.rs", "x/src/utility.rs", "x/src/commons.rs"] {
            assert!(broken(path, "//! Does a.\n").is_empty(), "{path}");
        }
    }
}
