//! A file as large as may be and bad throughout: it is refused in few words, and leaves no memory behind.

use std::fs;

use lb_tests::lab::*;

use super::*;

const LARGEST: usize = 1024 * 1024;
/// In KiB; a daemon that has nothing to do has 10 to 20 MiB.
const MOST_MORE: u64 = 8 * 1024;

/// What the daemon holds beside files and shared memory, in KiB.
fn resident(naru: &Naru) -> Result<u64> {
    let id = naru.process_id().context("naru does not run")?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line
        .and_then(|line| line.split_whitespace().next())
        .context("RssAnon")?;
    Ok(number.parse()?)
}

fn of_lines(line: impl Fn(usize) -> String) -> String {
    let mut text = "[node]\n".to_owned();
    let mut number = 0;
    while text.len() < LARGEST - 64 {
        text += &line(number);
        number += 1;
    }
    text
}

#[test]
fn a_bad_file_of_a_megabyte_is_refused_in_few_words_and_few_bytes() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let good = naru.config()?;
        let path = naru.config_path().display().to_string();
        let before = resident(&naru)?;
        let bad = [
            of_lines(|number| format!("key{number} = {number}\n")),
            of_lines(|number| format!("{number} GET /index.html 200\n")),
            of_lines(|_| "=\n".to_owned()),
            of_lines(|number| format!("[service.s{number}]\n")),
            format!("[node]\nname = \"{}\"\n", "x".repeat(LARGEST - 64)),
        ];
        for text in &bad {
            let shown: String = text.chars().skip(7).take(30).collect();
            let logged = naru.log().len();
            fs::write(naru.config_path(), text)?;
            let reload = naru.cli(&["reload"])?;
            assert_eq!(reload.status.code(), Some(1), "{shown}");
            let said = String::from_utf8(reload.stderr)?;
            assert!(
                said.lines().count() < 250 && said.len() < 100_000,
                "{} bytes: {shown}",
                said.len()
            );
            let status = naru.tell(&["status", "--json"])?;
            assert!(status.len() < 150_000, "{} bytes of status: {shown}", status.len());
            // The watcher may have met the file half written.
            let logged = naru.log().len() - logged;
            assert!(logged < 300_000, "{logged} bytes of log: {shown}");
            let check = naru.cli(&["check", &path, "--json"])?;
            assert_eq!(check.status.code(), Some(1), "{shown}");
            let found: Vec<Value> = serde_json::from_slice(&check.stdout)?;
            assert!(found.len() <= 102, "{} diagnostics: {shown}", found.len());
            let now = resident(&naru)?;
            eprintln!("{shown:?}: {before} KiB before, {now} KiB after, {logged} bytes of log");
            assert!(
                now < before + MOST_MORE,
                "{before} KiB before, {now} KiB after: {shown}"
            );
        }
        fs::write(naru.config_path(), good)?;
        naru.tell(&["reload"])?;
        assert!(naru.status()?["config"]["error"].is_null());
        Ok(())
    });
}
