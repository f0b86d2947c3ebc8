//! Files that a configuration names and that are no files: they are refused, and nothing waits for them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lb_tests::lab::*;

use super::databases::EVENTUALLY;
use super::*;

/// What nobody ever writes to, and what never ends.
fn no_files(lab: &Lab) -> Result<[PathBuf; 2]> {
    let fifo = lab.folder().join("fifo");
    mkfifo(&fifo)?;
    Ok([fifo, "/dev/zero".into()])
}

fn mkfifo(path: &Path) -> Result<()> {
    let status = std::process::Command::new("mkfifo").arg(path).status()?;
    ensure!(status.success(), "mkfifo: {status}");
    Ok(())
}

fn vrrp(line: &str) -> String {
    format!("[vrrp.main]\nid = 51\ninterface = \"eth0\"\naddresses = [\"198.18.0.101/24\"]\n{line}\n")
}

#[test]
fn a_key_that_is_no_file_is_refused_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let served = net.service("web", "tcp", 80, &[1]);
        let mut naru = Naru::run(lab, &net.node, &served)?;
        let before = generation(&naru)?;
        for path in no_files(lab)? {
            naru.replace(&(served.clone() + &vrrp(&format!("key_file = {path:?}"))))?;
            let asked = Instant::now();
            let answer = naru.cli(&["reload"])?;
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            ensure!(!answer.status.success() && said.contains("it is not a file"), "{said}");
            ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            assert_eq!(generation(&naru)?, before);
            let tally = Load::one_each(2).requests(50).start(&net.client, LISTEN)?.finish();
            assert_clean(&tally, 50);
        }
        assert_eq!(naru.stop()?, Some(0));
        let ended = naru.run_to_end()?;
        ensure!(
            ended.code == Some(3) && ended.log.contains("it is not a file"),
            "{ended:?}"
        );
        Ok(())
    });
}

/// Of each kind that reads a file: nothing is known of the backend, and what is wrong is said.
#[test]
fn a_check_whose_file_is_none_finds_out_nothing() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let [fifo, endless] = no_files(lab)?;
        let address = backend_address(0);
        let mut config = net.service("web", "tcp", 80, &[1]);
        let keys = [
            format!("type = \"postgres\"\npassword_file = {fifo:?}"),
            format!("type = \"mysql\"\npassword_file = {endless:?}"),
            format!("type = \"https\"\npath = \"/\"\nca = {fifo:?}"),
            format!("type = \"https\"\npath = \"/\"\nca = {endless:?}"),
        ];
        for (port, keys) in (5000..).zip(&keys) {
            config += &format!(
                "[service.s{port}]\nlisten = \"{VIP}:{port}\"\nbackends = [\"{address}\"]\ncheck = \"c{port}\"\n\
                 [check.c{port}]\n{keys}\n"
            );
        }
        let naru = Naru::run(lab, &net.node, &config)?;
        let of = format!("s5000/{address}");
        until(EVENTUALLY, || {
            for port in 5000..5000 + keys.len() {
                let explained = naru.tell(&["explain", &of.replace("s5000", &format!("s{port}")), "--json"])?;
                ensure!(explained.contains("it is not a file"), "{explained}");
            }
            Ok(())
        })?;
        let tally = Load::one_each(2).requests(50).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 50);
        Ok(())
    });
}

#[test]
fn a_key_that_others_can_read_is_told_until_they_cannot() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let key = lab.folder().join("vrrp.key");
        fs::write(&key, format!("{}\n", "k".repeat(64)))?;
        fs::set_permissions(&key, Permissions::from_mode(0o644))?;
        let config = net.service("web", "tcp", 80, &[1]) + &vrrp(&format!("key_file = {key:?}"));
        let naru = Naru::run(lab, &net.node, &config)?;
        let warning = format!("key_file {}: everybody can read it", key.display());
        let is_told = || Ok::<_, anyhow::Error>(naru.status()?["warnings"].to_string().contains(&warning));
        until_true(EVENTUALLY, "nothing is said", is_told)?;
        ensure!(naru.log().contains(&warning), "{}", naru.log());
        let checked = naru.cli(&["check", &naru.config_path().display().to_string()])?;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        ensure!(checked.status.success() && said.contains(&warning), "{said}");

        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        until_true(EVENTUALLY, "it is still told", || Ok(!is_told()?))
    });
}
