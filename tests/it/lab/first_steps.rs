//! What the README has a new user type does what it says.

use lb_tests::lab::*;

use super::*;

const README: &str = include_str!("../../../README.md");

/// In backticks at the beginning of a row, each with its options and without them.
fn commands_of_the_table() -> Vec<Vec<&'static str>> {
    let rows = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `naru ")?.split_once(" |"));
    let spans = rows.flat_map(|(cell, _)| cell.split('`').step_by(2));
    let commands = spans.map(|span| span.trim_start_matches("naru ").trim());
    let both = commands.filter(|command| !command.is_empty()).flat_map(|command| {
        let bare: Vec<&str> = command.split(" [").take(1).flat_map(str::split_whitespace).collect();
        let mut optional = bare.clone();
        optional.extend(command.contains("[--json]").then_some("--json"));
        [bare, optional]
    });
    both.collect()
}

/// The lines of its last shell block.
fn commands_that_look_inside() -> Vec<&'static str> {
    let block = README.split("```sh\n").last().and_then(|rest| rest.split("```").next());
    let lines = block.unwrap_or_default().lines();
    lines
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .collect()
}

#[test]
fn the_commands_of_the_readme_work() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let instance = "[vrrp.main]\ninterface = \"clients\"\nid = 51\naddresses = [\"198.18.0.101/24\"]\n";
        let web = net.service("web", "tcp", 80, &[1, 1]).replace("b1", "rack");
        let naru = Naru::run(lab, &net.node, &format!("[node]\nmax_flows = 1024\n{web}\n{instance}"))?;
        until_true(SOON, "nobody is master", || {
            Ok(naru.tell(&["vrrp"])?.contains("master"))
        })?;

        let commands = commands_of_the_table();
        assert!(commands.len() > 20, "{commands:?}");
        for command in &commands {
            let output = naru.cli(command)?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            // There is no other node that could take over.
            let may_be_refused = command[0] == "failover" || command[0] == "failback";
            let code = output.status.code();
            assert!(
                code == Some(0) || may_be_refused && code == Some(1),
                "naru {command:?}: {code:?}: {said}"
            );
            assert!(!said.trim().is_empty(), "naru {command:?} says nothing");
            if command.contains(&"--json") {
                serde_json::from_str::<Value>(&said).with_context(|| format!("naru {command:?}: {said}"))?;
            }
        }

        let commands = commands_that_look_inside();
        assert!(commands.len() > 5, "{commands:?}");
        for command in commands {
            let here = command.replace("/sys/fs/bpf/naru", &naru.pin_folder().display().to_string());
            let shown = net.node.stdout("sh", &["-c", &here])?;
            assert!(!shown.trim().is_empty(), "{command} shows nothing");
        }
        Ok(())
    });
}
