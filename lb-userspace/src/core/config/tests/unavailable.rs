//! What cannot be done yet is said once for each section and key, at its place.

use super::{SMALLEST, found};

#[test]
fn keys_of_a_service() {
    let cases = [
        (
            "check = \"c\"\n[check.c]\ntype = \"tcp\"",
            vec![
                (4, 1, "service \"web\": check: health checks are"),
                (5, 1, "[check.c]: health checks are"),
            ],
        ),
        (
            "mode = \"dsr-l2\"",
            vec![(4, 8, "service \"web\": mode: \"dsr-l2\" is")],
        ),
        (
            "mode = \"dsr-ipip\"",
            vec![(4, 8, "service \"web\": mode: \"dsr-ipip\" is")],
        ),
        ("mode = \"nat\"", vec![]),
        ("algorithm = \"maglev\"", vec![]),
        (
            "algorithm = \"round-robin\"",
            vec![(4, 13, "service \"web\": algorithm: \"round-robin\" is")],
        ),
        (
            "algorithm = \"least-connections\"",
            vec![(4, 13, "service \"web\": algorithm: \"least-connections\" is")],
        ),
        (
            "algorithm = \"source\"",
            vec![(4, 13, "service \"web\": algorithm: \"source\" is")],
        ),
        ("on_down = \"drain\"", vec![]),
        (
            "on_down = \"reset\"",
            vec![(4, 11, "service \"web\": on_down: resetting flows is")],
        ),
        ("snat = [\"198.18.0.1\"]", vec![]),
        (
            "snat = [\"198.18.0.1\", \"198.18.0.2\"]",
            vec![(4, 23, "service \"web\": snat: more than one address is")],
        ),
        (
            "max_active = 1",
            vec![(4, 1, "service \"web\": max_active: a limit of active backends is")],
        ),
        (
            "backup = [\"198.18.1.13:80\"]",
            vec![(4, 1, "service \"web\": backup: backup backends are")],
        ),
        (
            "slow_start = \"30s\"",
            vec![(4, 1, "service \"web\": slow_start: slow start is")],
        ),
        (
            "[web]\nlisten = \"127.0.0.1:8404\"",
            vec![(4, 1, "[web]: the status pages are")],
        ),
        ("[dns]", vec![(4, 1, "[dns]: resolving the names of backends is")]),
        (
            "[vrrp.v]\ninterface = \"eth0\"\nid = 1\naddresses = [\"198.18.0.1/24\"]",
            vec![(4, 1, "[vrrp.v]: VRRP is")],
        ),
        (
            "[alarm.a]\nservice = \"web\"\nmetric = \"bytes\"\nabove = 1\nweights = {}",
            vec![(4, 1, "[alarm.a]: alarms are")],
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(found(&format!("{SMALLEST}{line}\n")), lines(&expected), "for {line}");
    }
}

#[test]
fn names_and_ipv6() {
    let text = r#"[backend.a]
address = "[2001:db8::1]:80"
[backend.b]
host = "app.example:80"
[service.six]
listen = ["[2001:db8::2]:80", "[2001:db8::3]:80"]
backends = ["a", "[2001:db8::4]:80"]
[service.names]
listen = "198.18.0.100:80"
backends = ["b", "app2.example:80"]
snat = ["2001:db8::5"]
"#;
    let mut expected = lines(&[
        (2, 11, "backend \"a\": address: IPv6 is"),
        (4, 1, "backend \"b\": host: resolving the names of backends is"),
        (6, 11, "service \"six\": listen: IPv6 is"),
        (7, 18, "service \"six\": backends: IPv6 is"),
        (
            10,
            18,
            "service \"names\": backends: resolving the names of backends is",
        ),
        (11, 9, "service \"names\": snat: IPv6 is"),
    ]);
    expected.push("11:9 service \"names\": mixes IPv4 (198.18.0.100) and IPv6 (2001:db8::5)".to_owned());
    assert_eq!(found(text), expected);
}

fn lines(expected: &[(usize, usize, &str)]) -> Vec<String> {
    let line = |(line, column, what): &(usize, usize, &str)| {
        format!("{line}:{column} {what} not available in this version of Naru yet; remove it to run")
    };
    expected.iter().map(line).collect()
}
