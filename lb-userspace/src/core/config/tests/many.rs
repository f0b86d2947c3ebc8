//! Files with very many mistakes, and with very long ones: what is told stays what a person reads.

use super::super::*;
use super::found;

/// A quarter of the largest file there may be, of these lines: the tests are not optimised.
fn large(line: impl Fn(usize) -> String) -> String {
    let most = usize::try_from(MAX_FILE_BYTES / 4).unwrap();
    let mut text = String::new();
    for number in 0.. {
        let line = line(number);
        if text.len() + line.len() > most {
            break;
        }
        text += &line;
    }
    text
}

fn errors(text: &str) -> Vec<Diagnostic> {
    let found = parse("naru.toml", text).expect_err("the file has errors");
    let told: usize = found.iter().map(|found| found.to_string().len()).sum();
    assert!(found.len() <= 102, "{} diagnostics", found.len());
    assert!(told < 100_000, "{told} bytes");
    found
}

#[test]
fn the_first_hundred_errors_are_told_and_the_number_of_the_rest() {
    let text = format!("[node]\n{}", large(|number| format!("key{number} = 1\n")));
    let all = text.lines().count() - 1;
    let found = errors(&text);
    assert_eq!(found.len(), 101);
    assert_eq!(found[0].headline(), "naru.toml:2:1 [node]: unknown key `key0`");
    assert_eq!(found[99].headline(), "naru.toml:101:1 [node]: unknown key `key99`");
    let last = format!("naru.toml:102:1 from here on {} more errors are not shown", all - 100);
    assert_eq!(found[100].headline(), last);
    assert_eq!(found.iter().map(|found| found.count).sum::<usize>(), all);
}

/// The order in which they are found is another.
#[test]
fn the_first_are_those_that_come_first_in_the_file() {
    let services: String = (0..150)
        .map(|number| format!("[service.s{number}]\nlisten = \"198.18.0.1:80\"\nbackends = [\"none\"]\n"))
        .collect();
    let lines = found(&services);
    let place = |line: &String| line.split(':').next().and_then(|number| number.parse::<usize>().ok());
    let places: Vec<_> = lines.iter().map(place).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(lines[0], "3:13 service \"s0\": backend \"none\" is not defined");
    assert_eq!(
        lines.last().unwrap(),
        "153:13 from here on 199 more errors are not shown"
    );
}

#[test]
fn of_what_is_no_configuration_the_beginning_is_read() {
    let no_configuration = [
        large(|number| format!("{number} GET /index.html HTTP/1.1 \"curl\"\n")),
        large(|_| "{\"a\": 1},\n".to_owned()),
        large(|_| "=\n".to_owned()),
        large(|_| "\"\n".to_owned()),
    ];
    for text in &no_configuration {
        let found = errors(text);
        let last = found.last().unwrap().headline();
        let told = "with so many errors this is no configuration: nothing from here on was looked at";
        assert!(last.ends_with(told), "{}: {last}", &text[..20]);
    }
    for line in ["[", "= ", "{\"a\": 1}, "] {
        errors(&large(|_| line.to_owned()));
    }
}

#[test]
fn a_good_beginning_does_not_hide_what_comes_after_it() {
    let services = |number: usize| {
        let host = format!("198.18.{}.{}", number / 250, number % 250);
        format!("[service.s{number}]\nlisten = \"{host}:80\"\nbackends = [\"198.19.0.1:80\"]\n")
    };
    let good: String = (0..2000).map(services).collect();
    assert_eq!(found(&good), [""; 0]);
    let line = good.lines().count() + 1;
    assert_eq!(found(&format!("{good}[node\n")), [format!("{line}:6 `]` is missing")]);
}

/// The end says what is wrong with what stands before.
#[test]
fn what_a_file_says_at_length_is_clipped() {
    let long = "x".repeat(500_000);
    let found = errors(&format!("[node]\nname = \"{long}\"\nxdp = {long}\n{long} = 1\n"));
    for diagnostic in &found {
        let shown = diagnostic.to_string();
        assert!(shown.chars().count() < 700, "{shown}");
    }
    let lines: Vec<String> = found.iter().map(Diagnostic::headline).collect();
    assert!(
        lines[0].starts_with("naru.toml:2:8 [node]: name: \"xxx"),
        "{}",
        lines[0]
    );
    assert!(lines[0].ends_with("xxx\" cannot be a name"), "{}", lines[0]);
    assert!(lines[1].ends_with("xxx` needs quotes"), "{}", lines[1]);
}

/// Each of these took minutes where every mistake was looked for from the start of its line, or of the file.
#[test]
fn a_single_line_takes_no_longer() {
    let services = large(|number| format!("a{number}={{}},"));
    let services = format!(
        "service = {{{}}}\n",
        &services[..services.len() - 20].trim_end_matches(|c| c != ',')
    );
    assert_eq!(errors(&services).len(), 101);
    let listens = large(|_| "\"198.18.0.1:80\",".to_owned());
    let web = format!("[service.web]\nbackends = [\"198.18.0.9:80\"]\nlisten = [{listens}]\n");
    assert_eq!(errors(&web).len(), 101);
}

#[test]
fn deep_nesting_is_an_error() {
    for text in [
        large(|_| "[".to_owned()),
        large(|_| "{a=".to_owned()),
        large(|_| "a.".to_owned()),
    ] {
        errors(&format!("a = {text}"));
        errors(&format!("{text}a = 1"));
    }
}

#[test]
fn warnings_are_counted_too() {
    let unused: String = (1..=250)
        .map(|port| format!("[backend.b{port}]\naddress = \"198.18.1.1:{port}\"\n"))
        .collect();
    let text = format!("{unused}{}", super::SMALLEST);
    let parsed = parse("naru.toml", &text).unwrap();
    assert_eq!(parsed.warnings.len(), 101);
    assert_eq!(
        parsed.warnings[100].headline(),
        "naru.toml:201:1 warning: from here on 150 more warnings are not shown"
    );
}
