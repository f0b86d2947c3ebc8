//! Plays scenarios: the whole core before a kernel and a network made of plain values, written as data.
//!
//! A scenario is lines of `given COMMAND` and `at TIME COMMAND`, each `at` followed by `expect` and, indented, what
//! the daemon did. A `Scene` knows the commands: `stage` those of the whole core, `vrrp::stage` those of VRRP alone.
//! `UPDATE_EXPECT=1` writes what happened into the file.

mod backends;
mod host;
mod names;
mod stage;
mod traffic;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use self::stage::Stage;

/// What a scenario acts on.
pub trait Scene: Default {
    /// Before anything happens.
    fn prepare(&mut self, command: &str, body: &[String]) -> Result<()>;
    /// What happened, a line for each; deadlines that fall due on the way count too.
    fn play(&mut self, time: Duration, command: &str, body: &[String]) -> Result<Vec<String>>;
    /// Something has been played.
    fn has_begun(&self) -> bool;
}

/// A line at the margin, and those indented below it.
struct Block {
    line: usize,
    head: String,
    body: Vec<String>,
}

/// Every `.scn` of the folder, in order; the errors of all of them together.
pub fn play_all<S: Scene>(folder: &Path) -> Result<()> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "scn"));
    files.sort();
    ensure!(!files.is_empty(), "no scenario in {}", folder.display());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let failures: Vec<String> = files
        .iter()
        .filter_map(|file| play_file::<S>(file, update).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn play_file<S: Scene>(file: &Path, update: bool) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let played = play::<S>(&text).with_context(|| file.display().to_string())?;
    if played == text {
        return Ok(());
    }
    if update {
        return fs::write(file, played).with_context(|| format!("write {}", file.display()));
    }
    let same = text
        .lines()
        .zip(played.lines())
        .take_while(|(expected, got)| expected == got)
        .count();
    let from = |text: &str| text.lines().skip(same).take(12).collect::<Vec<_>>().join("\n");
    bail!(
        "{}:{}: expected\n{}\nbut got\n{}\n(UPDATE_EXPECT=1 accepts it)",
        file.display(),
        same + 1,
        from(&text),
        from(&played)
    );
}

/// The same text, with what happened in the place of what was expected.
fn play<S: Scene>(text: &str) -> Result<String> {
    let mut stage = S::default();
    let mut lines: Vec<String> = Vec::new();
    let mut blocks = blocks(text).into_iter().peekable();
    while let Some(block) = blocks.next() {
        lines.extend(std::iter::once(&block.head).chain(&block.body).cloned());
        let happened = act(&mut stage, &block).with_context(|| format!("line {}: {}", block.line, block.head))?;
        let Some(happened) = happened else { continue };
        if blocks.peek().is_some_and(|next| next.head == "expect") {
            blocks.next();
        }
        lines.push("expect".to_owned());
        lines.extend(happened.iter().map(|line| format!("    {line}").trim_end().to_owned()));
        lines.push(String::new());
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// What the daemon did, for a block that moves time on.
fn act(stage: &mut impl Scene, block: &Block) -> Result<Option<Vec<String>>> {
    match block.head.split_once(' ') {
        _ if block.head.is_empty() || block.head.starts_with('#') => Ok(None),
        Some(("given", command)) => {
            ensure!(!stage.has_begun(), "`given` comes before the first `at`");
            stage.prepare(command, &block.body)?;
            Ok(None)
        }
        Some(("at", command)) => {
            let (time, command) = command.split_once(' ').context("`at` needs a time and a command")?;
            let seconds: f64 = time.strip_suffix('s').context("a time ends in s")?.parse()?;
            stage
                .play(Duration::from_secs_f64(seconds), command, &block.body)
                .map(Some)
        }
        _ => bail!("a line begins with `given`, `at`, `expect` (after an `at`) or #"),
    }
}

/// Blank lines after an `expect` belong to it.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match blocks.last_mut() {
            Some(block) if line.starts_with(' ') => block.body.push(line.to_owned()),
            Some(block) if line.is_empty() && block.head == "expect" => {}
            Some(block) if line.is_empty() && !block.body.is_empty() => block.body.push(String::new()),
            _ => blocks.push(Block {
                line: number + 1,
                head: line.to_owned(),
                body: Vec::new(),
            }),
        }
    }
    blocks
}
