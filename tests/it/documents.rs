//! What the documents name exists: files, headings, commands, options, configuration keys, and where the pins are.
//!
//! Commands run in a lab (`lab::first_steps`); here they are only looked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use lb_common::abi::LAYOUT_VERSION;
use lb_userspace::cli::Cli;
use lb_userspace::core::config::parse;

struct Document {
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents() -> Vec<Document> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        entries.map(|entry| entry.expect("the folder can be read").path())
    };
    let all = ["", "docs", "docs/adr"].into_iter().flat_map(in_folder);
    let markdown = all.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: PathBuf| Document {
        text: fs::read_to_string(&path).expect("a document is text"),
        path,
    };
    markdown.map(read).collect()
}

/// Complaints of all documents; each looks at one.
fn check(look: impl Fn(&Document) -> Vec<String>) {
    let documents = documents();
    assert!(documents.len() > 10, "{} documents", documents.len());
    let complaints = documents.iter().flat_map(|document| {
        let name = document.path.display().to_string();
        look(document)
            .into_iter()
            .map(move |complaint| format!("{name}: {complaint}"))
    });
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What stands between a beginning and an end, at each place.
fn between<'t>(text: &'t str, beginning: &'t str, end: &'t str) -> impl Iterator<Item = &'t str> {
    let places = text.match_indices(beginning);
    places.filter_map(move |(at, _)| text[at + beginning.len()..].split_once(end).map(|(inner, _)| inner))
}

/// Text in fences of this kind.
fn fenced<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let mut blocks = text.split("\n```");
    blocks.next();
    let open = blocks.step_by(2);
    open.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'))
        .collect()
}

/// A heading as links name it.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    check(|Document { path, text }| {
        let links = between(text, "](", ")").filter(|link| !link.starts_with("http"));
        let is_dead = |link: &&str| {
            let (file, anchor) = link
                .split_once('#')
                .map_or((*link, None), |(file, anchor)| (file, Some(anchor)));
            let target = match file {
                "" => path.clone(),
                file => path.with_file_name(file),
            };
            let has = |anchor: &str| fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
            !target.exists() || anchor.is_some_and(|anchor| !has(anchor))
        };
        links.filter(is_dead).map(|link| format!("nothing at {link}")).collect()
    });
}

/// In backticks, from the root of the project or from that of the daemon's code.
#[test]
fn files_that_are_named_exist() {
    const FOLDERS: [&str; 11] = [
        ".ci",
        "config",
        "core",
        "daemon",
        "docs",
        "io",
        "lb-common",
        "lb-ebpf",
        "lb-userspace",
        "tests",
        "xtask",
    ];
    check(|Document { text, .. }| {
        let is_path = |word: &&str| {
            let plain = word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c));
            plain
                && word
                    .split_once('/')
                    .is_some_and(|(folder, _)| FOLDERS.contains(&folder))
        };
        let exists = |word: &&str| root().join(word).exists() || root().join("lb-userspace/src").join(word).exists();
        // Between two words in backticks there is text that may look like one.
        let words = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let lost = words.filter(is_path).filter(|word| !exists(word));
        lost.map(|word| format!("there is no {word}")).collect()
    });
}

#[test]
fn commands_that_are_named_exist() {
    let cli = Cli::command();
    check(|Document { text, .. }| {
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let shell = fenced(text, "sh");
        let lines = shell.iter().flat_map(|block| block.lines());
        let lines = lines.map(|line| line.split('#').next().unwrap_or_default());
        let commands = spans.chain(lines).filter_map(|line| line.trim().strip_prefix("naru "));
        commands.filter_map(|line| wrong(&cli, line)).collect()
    });
}

/// Why it is no command, if so.
fn wrong(cli: &clap::Command, line: &str) -> Option<String> {
    let mut words = line.split_whitespace().map(|word| word.trim_matches(['[', ']', ',']));
    let name = words.next()?;
    let Some(command) = cli.find_subcommand(name) else {
        return Some(format!("there is no `naru {name}`"));
    };
    let options = || {
        command
            .get_arguments()
            .chain(cli.get_arguments())
            .filter_map(clap::Arg::get_long)
    };
    let mut given = words.filter_map(|word| word.strip_prefix("--"));
    let unknown = given.find(|word| *word != "help" && !options().any(|option| option == *word))?;
    Some(format!("`naru {name}` has no --{unknown}"))
}

/// A part of a file is looked at beside a service, and what it names elsewhere may be missing.
#[test]
fn configuration_that_is_shown_is_understood() {
    const LITTLE: &str = "[service.shown-beside]\nlisten = \"198.18.255.1:9\"\nbackends = [\"198.18.255.2:9\"]\n";
    check(|Document { text, .. }| {
        let shown = fenced(text, "toml").into_iter();
        let wrong = shown.flat_map(|block| {
            let found = parse("shown", &format!("{block}\n{LITTLE}")).err().unwrap_or_default();
            let headlines = found.iter().map(|found| found.headline()).collect::<Vec<_>>();
            let is_elsewhere = |line: &String| {
                let elsewhere = ["is not defined", "is missing", "there is no"];
                elsewhere.iter().any(|words| line.contains(words))
            };
            headlines.into_iter().filter(move |line| !is_elsewhere(line))
        });
        wrong.collect()
    });
}

#[test]
fn pins_are_where_the_documents_say() {
    let layout = format!("v{LAYOUT_VERSION}");
    check(|Document { path, text }| {
        let is_history = path.ends_with("CHANGELOG.md") || path.parent().is_some_and(|folder| folder.ends_with("adr"));
        let pins = between(text, "/sys/fs/bpf/naru/", "/").filter(|folder| folder.len() < 4 && *folder != layout);
        let wrong = pins.filter(|_| !is_history);
        wrong
            .map(|folder| format!("the pins are in {layout}, not in {folder}"))
            .collect()
    });
}
