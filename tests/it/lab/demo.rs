//! The demo shows live numbers within seconds, and leaves nothing, however it ends.

use std::fs::{self, File};
use std::path::Path;

use lb_tests::lab::*;
use rustix::process::Signal;

use super::*;

const LINES_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn the_demo_ends_by_itself() {
    case(|lab| {
        let (mut demo, output) = start(lab, &["--seconds", "4"])?;
        assert_eq!(
            demo.wait(Duration::from_secs(20))?.code(),
            Some(0),
            "{}",
            fs::read_to_string(&output)?
        );
        let said = fs::read_to_string(&output)?;
        for part in [
            "NARU_SOCKET=",
            "bpftool map dump pinned",
            "lb-a master, lb-b backup",
            "web-a up",
            "web-c up",
            "no call was lost",
        ] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
        let answers = answers(&said);
        assert!(
            answers.len() >= 2 && answers.windows(2).all(|pair| pair[0] < pair[1]),
            "{said}"
        );
        assert_nothing_left(demo.id());
        Ok(())
    });
}

#[test]
fn the_demo_ends_by_ctrl_c() {
    case(|lab| {
        let (mut demo, output) = start(lab, &[])?;
        until_true(LINES_WITHIN, "no numbers yet", || {
            Ok(!answers(&fs::read_to_string(&output)?).is_empty())
        })?;
        demo.signal(Signal::INT)?;
        assert_eq!(demo.wait(Duration::from_secs(10))?.code(), Some(0));
        assert_nothing_left(demo.id());
        Ok(())
    });
}

/// As somebody would who sits before it.
#[test]
fn the_demo_kills_the_master_and_the_traffic_goes_on() {
    case(|lab| {
        let output = lab.folder().join("demo.log");
        let file = File::create(&output)?;
        let demo = built("naru-demo")?;
        let keys = "(sleep 4; printf k; sleep 3; printf k; sleep 4; printf q)";
        let mut command = lab.command("sh");
        command.args(["-c", &format!("{keys} | exec {}", demo.display())]);
        let mut demo = Process::spawn(command.stdout(file.try_clone()?).stderr(file))?;
        let code = demo.wait(Duration::from_secs(40))?.code();
        let said = fs::read_to_string(&output)?;
        assert_eq!(code, Some(0), "{said}");
        for part in [
            "lb-a is killed",
            "lb-a dead, lb-b master",
            "calls were lost for ",
            "lb-a is started again",
        ] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
        let again = said.split_once("lb-a is started again").map_or("", |(_, rest)| rest);
        assert!(again.contains("lb-a master, lb-b backup"), "{said}");
        Ok(())
    });
}

fn start(lab: &Lab, arguments: &[&str]) -> Result<(Process, std::path::PathBuf)> {
    let output = lab.folder().join("demo.log");
    let file = File::create(&output)?;
    let mut command = lab.command(built("naru-demo")?);
    let demo = Process::spawn(command.args(arguments).stdout(file.try_clone()?).stderr(file))?;
    Ok((demo, output))
}

/// The client's count in each line so far.
fn answers(said: &str) -> Vec<u64> {
    let counts = said
        .lines()
        .filter_map(|line| line.split_once(" s: ")?.1.split(' ').next()?.parse().ok());
    counts.collect()
}

#[track_caller]
fn assert_nothing_left(demo: u32) {
    for (folder, prefix) in [
        ("/run/netns", "naru-"),
        ("/sys/fs/bpf", "naru-lab-"),
        ("/tmp", "naru-lab-"),
    ] {
        let prefix = format!("{prefix}{demo}-");
        let entries = fs::read_dir(Path::new(folder)).into_iter().flatten().flatten();
        let left: Vec<_> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
