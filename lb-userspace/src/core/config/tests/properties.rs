//! What holds for every text.

use proptest::prelude::*;

use super::super::*;
use super::SMALLEST;

const EXAMPLE: &str = include_str!("../../../../../config/naru.example.toml");
const DEMO: &str = include_str!("../../../../../config/demo.toml");

/// A good file after one slip of the keyboard: a piece of it replaced by something else.
fn slip() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}=\"'#.,\n 0-9a-z]{1,4}",
        any::<char>().prop_map(String::from),
        Just("\"\"\"".to_owned()),
        Just("[[".to_owned()),
    ];
    let file = prop_oneof![Just(SMALLEST), Just(DEMO), Just(EXAMPLE)];
    (file, any::<prop::sample::Index>(), 0_usize..30, piece).prop_map(|(file, at, length, piece)| {
        let start = at.index(file.len() + 1);
        let end = file.len().min(start + length);
        format!("{}{piece}{}", &file[..start], &file[end..])
    })
}

/// Lines that mean nothing, and spaces where they mean nothing.
fn noise() -> impl Strategy<Value = (String, String)> {
    (
        prop_oneof![Just(String::new()), "[ \t]{0,3}(#[a-z =\"\\[\\]]{0,10})?\n"],
        "[ \t]{0,3}(#[^\\x00-\\x1f\\x7f]{0,10})?",
    )
}

/// Every diagnostic points into the file, or just behind it.
fn assert_in_file(text: &str, found: &[Diagnostic]) {
    for found in found {
        let line = text.split('\n').nth(found.line - 1);
        let line = line.unwrap_or_else(|| panic!("no such line: {found}"));
        assert!(found.column <= line.chars().count() + 1, "no such column: {found}");
        assert!(!found.message.is_empty());
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        if let Err(found) = parse("naru.toml", &text) {
            assert_in_file(&text, &found);
        }
    }

    #[test]
    fn no_slip_makes_it_panic(text in slip()) {
        match parse("naru.toml", &text) {
            Ok(parsed) => assert_in_file(&text, &parsed.warnings),
            Err(found) => {
                prop_assert!(found.iter().any(|found| found.severity == Severity::Error));
                assert_in_file(&text, &found);
            }
        }
    }

    #[test]
    fn comments_and_spaces_change_nothing(noise in prop::collection::vec(noise(), 1..20)) {
        let mut text = String::new();
        for (line, (above, behind)) in DEMO.lines().zip(noise.iter().cycle()) {
            text += &format!("{above}{line}{behind}\n");
        }
        let expected = parse("naru.toml", DEMO).expect("the demo is good").config;
        prop_assert_eq!(parse("naru.toml", &text).map(|parsed| parsed.config), Ok(expected));
    }
}
