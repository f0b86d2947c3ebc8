//! What Naru cannot do it says in one line with the right exit code, and leaves nothing half done.

use std::fs;

use lb_tests::lab::*;

use super::*;

const CONFIG_ERRORS: i32 = 1;
const UNREADABLE: i32 = 2;
const CANNOT_SERVE: i32 = 3;

const OF_A_BACKEND_THAT_IS_GONE: &str = r#"{ "format": 1, "overrides": [{ "service": "web", "backend": "gone",
    "disable": null, "drain": { "by": "root", "at": { "secs_since_epoch": 0, "nanos_since_epoch": 0 } }, "weight": null,
    "file": { "address": "198.18.1.9:80", "weight": 1, "backup": false } }] }"#;

/// It ended with this code, said these words, and no pin and no program of it is left.
#[track_caller]
fn assert_refused(net: &Topology, naru: &Naru, ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.log);
    for word in words {
        assert!(ended.log.contains(word), "{word:?} is not in:\n{}", ended.log);
    }
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
    let pins: Vec<_> = fs::read_dir(naru.pin_folder())
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(pins.is_empty(), "pins stay: {pins:?}");
    assert_eq!(programs(net), "", "a program stays");
}

/// Lines of `bpftool net` that show XDP on an interface.
fn programs(net: &Topology) -> String {
    let shown = net.node.stdout("bpftool", &["net"]).expect("bpftool shows the network");
    shown
        .lines()
        .filter(|line| line.contains(") driver") || line.contains(") generic"))
        .collect()
}

#[test]
fn unreadable_files() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let naru = Naru::new(lab, &net.node, "")?;
        let path = naru.config_path();
        let name = path.display().to_string();

        fs::remove_file(path)?;
        assert_refused(&net, &naru, &naru.run_to_end()?, UNREADABLE, &[&name, "does not exist"]);
        assert_eq!(naru.cli(&["check", &name])?.status.code(), Some(UNREADABLE));

        fs::create_dir(path)?;
        assert_refused(&net, &naru, &naru.run_to_end()?, UNREADABLE, &[&name, "folder"]);
        assert_eq!(naru.cli(&["check", &name])?.status.code(), Some(UNREADABLE));
        fs::remove_dir(path)?;
        Ok(())
    });
}

#[test]
fn files_that_are_no_configuration() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let naru = Naru::new(lab, &net.node, "")?;
        let path = naru.config_path();
        let name = path.display().to_string();
        let noise: Vec<u8> = BIG_FILE[..4096].to_vec();
        let large = "# nothing but comments\n".repeat(10_000_000 / 23).into_bytes();
        for bytes in [noise, large] {
            fs::write(path, &bytes)?;
            let ended = naru.run_to_end()?;
            assert!(ended.log.len() < 20_000, "{} bytes of complaint", ended.log.len());
            let code = ended.code.unwrap_or_default();
            assert!([CONFIG_ERRORS, UNREADABLE].contains(&code), "{code}: {}", ended.log);
            assert_refused(&net, &naru, &ended, code, &[&name]);
            assert_eq!(naru.cli(&["check", &name])?.status.code(), Some(code));
        }
        Ok(())
    });
}

#[test]
fn configuration_errors() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let naru = Naru::new(
            lab,
            &net.node,
            "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"b9\"]\n",
        )?;
        assert_refused(&net, &naru, &naru.run_to_end()?, CONFIG_ERRORS, &["naru.toml:3:", "b9"]);
        Ok(())
    });
}

#[test]
fn interfaces_that_cannot_serve() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let web = net.service("web", "tcp", 80, &[1]);

        let naru = Naru::new(
            lab,
            &net.node,
            &format!("{web}\n[node]\ninterfaces = [\"clients\", \"nowhere\"]\n"),
        )?;
        assert_refused(&net, &naru, &naru.run_to_end()?, CANNOT_SERVE, &["nowhere"]);

        // A bridge has no driver that could run a program.
        net.node.ip("link add virtual type bridge\nlink set virtual up")?;
        naru.save(&format!(
            "{web}\n[node]\ninterfaces = [\"clients\", \"virtual\"]\nxdp = \"native\"\n"
        ))?;
        assert_refused(&net, &naru, &naru.run_to_end()?, CANNOT_SERVE, &["virtual", "native"]);
        Ok(())
    });
}

#[test]
fn an_interface_that_another_program_owns() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let mut foreign = PassProgram::load()?;
        foreign.attach(&net.node, "clients")?;
        let theirs = programs(&net);
        assert!(theirs.contains("clients"), "{theirs}");

        let naru = Naru::new(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let mut ended = naru.run_to_end()?;
        // Neither what a start would write anew, nor what it would set aside.
        for record in [OF_A_BACKEND_THAT_IS_GONE, "{ damaged"] {
            fs::write(naru.record(), record)?;
            ended = naru.run_to_end()?;
            assert_eq!(fs::read_to_string(naru.record())?, record);
        }
        assert_eq!(programs(&net), theirs);
        drop(foreign);
        assert_refused(&net, &naru, &ended, CANNOT_SERVE, &["clients", "XDP"]);
        Ok(())
    });
}

#[test]
fn without_privileges() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let naru = Naru::new(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        // Root in name only: everything else about it works.
        let command = naru.daemon_command_behind("setpriv", &["--bounding-set=-all", "--inh-caps=-all"])?;
        assert_refused(&net, &naru, &naru.run_to_end_as(command)?, CANNOT_SERVE, &["CAP_BPF"]);
        Ok(())
    });
}

#[test]
fn bpffs_is_mounted_when_it_is_not() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::new(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let unmounted = "while umount /sys/fs/bpf 2>/dev/null; do :; done; exec \"$@\"";
        let mut command = naru.daemon_command_behind("unshare", &["--mount", "sh", "-c", unmounted, "sh"])?;
        naru.adopt(Process::spawn(&mut command)?)?;
        assert_clean(&Load::one_each(1).requests(10).start(&net.client, LISTEN)?.finish(), 10);

        let id = naru.process_id().context("naru does not run")?;
        let pins = format!("/proc/{id}/root{}", naru.pins().display());
        assert!(fs::read_dir(pins)?.count() > 0);
        assert!(!naru.pin_folder().exists(), "pins in the host's mount");
        Ok(())
    });
}
