//! One mistake, or a few, and every line it is answered with.

use super::{SMALLEST, found, hints};

#[track_caller]
fn check(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(found(text), *expected, "for\n{text}");
    }
}

/// A line in a good service, which begins in line 4.
#[track_caller]
fn check_service(cases: &[(&str, &[&str])]) {
    for (line, expected) in cases {
        assert_eq!(found(&format!("{SMALLEST}{line}\n")), *expected, "for {line}");
    }
}

#[test]
fn several_mistakes_are_several_errors() {
    let text = r#"[node]
xpd = "auto"

[backend.a]
address = "198.18.1.11"

[service.web]
listen = "198.18.0.100:0"
backends = ["a", "bb"]
weights = { a = 1001 }
idle_timeout = 30
protocol = udp
"#;
    let expected = [
        "2:1 [node]: unknown key `xpd`",
        "5:11 backend \"a\": address: \"198.18.1.11\" has no port",
        "8:10 service \"web\": listen: port 0 cannot be used",
        "9:18 service \"web\": backend \"bb\" is not defined",
        "10:17 service \"web\": weights.a: 1001 is out of range",
        "11:16 service \"web\": idle_timeout: 30 has no unit",
        "12:12 `udp` needs quotes",
    ];
    assert_eq!(found(text), expected);
    let hints = hints(text);
    assert_eq!(hints[0], "did you mean `xdp`?");
    assert_eq!(hints[1], "such as \"198.18.1.11:80\"");
    assert_eq!(hints[3], "defined backends: a");
    assert_eq!(hints[4], "0 to 1000");
    assert_eq!(hints[5], "write \"30s\"");
    assert_eq!(hints[6], "write \"udp\"");
}

#[test]
fn syntax() {
    let good = "listen = \"198.18.0.1:1\"\nbackends = [\"198.18.1.1:1\"]\n";
    check(&[
        (
            "[node]\nname \"a\"\nxpd = 1\n",
            &["2:6 `=` is missing", "3:1 [node]: unknown key `xpd`"],
        ),
        (
            "[node]\nname \"a b\"\nname2\n",
            &[
                "2:6 `=` is missing",
                "2:6 [node]: name: \"a b\" cannot be a name",
                "3:1 [node]: unknown key `name2`",
                "3:6 `=` is missing",
            ],
        ),
        (
            "[node]\nname =\nxpd = 1\n",
            &["2:7 the value is missing", "3:1 [node]: unknown key `xpd`"],
        ),
        ("[node]\nname = \"a\"\nname = \"b\"\n", &["3:1 `name` is given twice"]),
        ("[node]\n[node]\n", &["2:2 `node` is given twice"]),
        ("[node]\nname = lb-a # here\n", &["2:8 `lb-a` needs quotes"]),
        (
            "[node\nname = \"a\"\nxpd = 1\n",
            &["1:6 `]` is missing", "3:1 [node]: unknown key `xpd`"],
        ),
        (
            "[node]\nname = \"a\nxpd = 1\n",
            &["2:10 `\"` is missing", "3:1 [node]: unknown key `xpd`"],
        ),
        (
            &format!("[node]\ninterfaces = [\"eth0\" \"eth0\"]\n[service.a]\n{good}"),
            &["2:22 `,` is missing", "2:22 [node]: interface \"eth0\" is listed twice"],
        ),
        (
            &format!("[node]\nname = \"a\" xdp = 1\n[service.a]\n{good}"),
            &["2:12 unexpected key or value"],
        ),
        (
            "[service.a]\nlisten = 198.18.0.1:80\nbackends = [198.18.1.1:1]",
            &["2:10 `198.18.0.1:80` needs quotes", "3:13 `198.18.1.1:1` needs quotes"],
        ),
        (
            "[check.a]\ntype = \"tcp\"\nevery = 2s\n",
            &[
                "1:1 [check.a]: health checks are not available in this version of Naru yet; remove it to run",
                "3:9 `2s` needs quotes",
            ],
        ),
        // A lost line may have held the key that seems to be missing; in other sections it is missing.
        (
            "[service.a]\nlisten = \"198.18.0.1:1\" backends = [\"198.18.1.1:1\"]\n[service.b]\nlisten = \"198.18.0.2:1\"\n",
            &[
                "2:25 unexpected key or value",
                "3:1 service \"b\": `backends` is missing",
            ],
        ),
        (
            "[node]\n\"a = 1\n[node2]\n",
            &[
                "2:1 [node]: unknown key `a = 1`",
                "2:7 `\"` is missing",
                "2:7 `=` is missing",
                "3:2 unknown section `node2`",
            ],
        ),
    ]);
    assert_eq!(hints("[check.a]\nevery = 2s\n")[1], "write \"2s\"");
}

#[test]
fn unknown_words() {
    check(&[
        ("[servcie.web]\nlisten = 5\n", &["1:2 unknown section `servcie`"]),
        (
            "[service.web]\nlistne = \"198.18.0.1:1\"\nbackends = [\"198.18.1.1:1\"]\n",
            &["2:1 service \"web\": unknown key `listne`"],
        ),
        (
            "[vrrp.main]\ninterface = \"eth0\"\nid = 5\nprioritty = 9\naddresses = [\"198.18.0.1/24\"]\n",
            &[
                "1:1 [vrrp.main]: VRRP is not available in this version of Naru yet; remove it to run",
                "4:1 vrrp \"main\": unknown key `prioritty`",
            ],
        ),
    ]);
    check_service(&[
        (
            "protocol = \"tpc\"",
            &["4:12 service \"web\": protocol: unknown value \"tpc\""],
        ),
        (
            "mode = \"bridge\"",
            &["4:8 service \"web\": mode: unknown value \"bridge\""],
        ),
        (
            "[backnd.x]\naddress = \"198.18.1.1:1\"",
            &["4:2 unknown section `backnd`"],
        ),
    ]);
    assert_eq!(
        hints(&format!("{SMALLEST}mode = \"bridge\"")),
        ["one of: nat, dsr-l2, dsr-ipip"]
    );
    assert_eq!(hints(&format!("{SMALLEST}protocol = \"tpc\"")), ["did you mean `tcp`?"]);
    assert_eq!(
        hints("[vrrp.m]\nprioritty = 1\n").last().unwrap(),
        "did you mean `priority`?"
    );
}

#[test]
fn misspelt_sections_have_no_consequences() {
    check(&[(
        "[backend.a]\naddress = \"198.18.1.1:1\"\n[bakend.b]\naddress = \"198.18.1.2:1\"\n\
         [service.web]\nlisten = \"198.18.0.1:1\"\nbackends = [\"a\", \"b\"]\n",
        &["3:2 unknown section `bakend`"],
    )]);
}

#[test]
fn types_and_shapes() {
    check(&[
        ("service = 5\n", &["1:11 [service]: must be a table, not an integer"]),
        (
            "[service]\nlisten = \"198.18.0.1:1\"\n",
            &["2:10 service \"listen\": must be a table, not a string"],
        ),
        (
            "[[backend.a]]\naddress = \"198.18.1.1:1\"\n",
            &["1:1 backend \"a\": must be a table, not a list"],
        ),
        (
            "[service.\"a b\"]\nlisten = \"198.18.0.1:1\"\nbackends = [\"198.18.1.1:1\"]\n",
            &["1:10 service \"a b\": \"a b\" cannot be a name"],
        ),
        (
            "[node]\nrun_dir = \"run\"\nmax_flows = 1\nname = \"\"\n",
            &[
                "2:11 [node]: run_dir: \"run\" is not an absolute path",
                "3:13 [node]: max_flows: 1 is out of range",
                "4:8 [node]: name: \"\" cannot be a name",
            ],
        ),
    ]);
    check_service(&[
        (
            "snat = \"198.18.0.1\"",
            &["4:8 service \"web\": snat: must be a list, not a string"],
        ),
        (
            "weights = [1, 2]",
            &["4:11 service \"web\": weights: must be a table, not a list"],
        ),
        (
            "protocol = 6",
            &["4:12 service \"web\": protocol: must be a string, not an integer"],
        ),
        (
            "max_active = \"1\"",
            &[
                "4:1 service \"web\": max_active: a limit of active backends is not available in this version of Naru yet; \
             remove it to run",
                "4:14 service \"web\": max_active: must be a whole number, not a string",
            ],
        ),
        (
            "[node]\ninterfaces = [\"eth0\", \"eth0\", \"a/b\"]",
            &[
                "5:23 [node]: interface \"eth0\" is listed twice",
                "5:31 [node]: interfaces: \"a/b\" cannot be an interface",
            ],
        ),
    ]);
}

#[test]
fn durations() {
    let place = "4:16 service \"web\": idle_timeout:";
    check_service(&[
        ("idle_timeout = \"1h\"", &[]),
        ("idle_timeout = \"0s\"", &[&format!("{place} a duration of zero")]),
        ("idle_timeout = \"5\"", &[&format!("{place} \"5\" has no unit")]),
        (
            "idle_timeout = \"5 s\"",
            &[&format!("{place} \"5 s\" is not a duration")],
        ),
        ("idle_timeout = \"s\"", &[&format!("{place} \"s\" is not a duration")]),
        (
            "idle_timeout = \"-5s\"",
            &[&format!("{place} \"-5s\" is not a duration")],
        ),
        (
            "idle_timeout = 1.5",
            &[&format!("{place} must be a string, not a number with a fraction")],
        ),
        (
            "idle_timeout = \"99999999999999999999h\"",
            &[&format!("{place} \"99999999999999999999h\" is too long")],
        ),
        (
            "idle_timeout = \"9999999999999h\"",
            &[&format!("{place} \"9999999999999h\" is too long")],
        ),
    ]);
    assert_eq!(hints(&format!("{SMALLEST}idle_timeout = 5")), ["write \"5s\""]);
}

#[test]
fn addresses() {
    let with = |listen: &str, backend: &str| {
        found(&format!(
            "[service.web]\nlisten = \"{listen}\"\nbackends = [\"{backend}\"]\n"
        ))
    };
    let listen = |text: &str| with(text, "198.18.1.11:80");
    let backend = |text: &str| with("198.18.0.100:80", text);
    let at_listen = |message: &str| vec![format!("2:10 service \"web\": listen: {message}")];
    let at_backend = |message: &str| vec![format!("3:13 service \"web\": backends: {message}")];
    assert_eq!(listen("198.18.0.100"), at_listen("\"198.18.0.100\" has no port"));
    assert_eq!(listen("198.18.0.100:http"), at_listen("\"http\" is not a port"));
    assert_eq!(listen("198.18.0.100:65536"), at_listen("\"65536\" is not a port"));
    assert_eq!(
        listen("198.18.0.256:80"),
        at_listen("\"198.18.0.256:80\" is not an address and port")
    );
    assert_eq!(
        listen("lb.example:80"),
        at_listen("\"lb.example:80\" is not an address and port")
    );
    assert_eq!(listen("0.0.0.0:80"), at_listen("0.0.0.0 stands for every address"));
    assert_eq!(listen("224.0.0.18:80"), at_listen("224.0.0.18 is multicast"));
    assert_eq!(listen("255.255.255.255:80"), at_listen("255.255.255.255 is broadcast"));
    assert_eq!(
        listen("127.0.0.1:80"),
        at_listen("127.0.0.1 is a loopback address, which no packet on a wire carries")
    );
    assert_eq!(backend("198.18.1.11"), at_backend("\"198.18.1.11\" has no port"));
    assert_eq!(backend("198.18.1.11:0"), at_backend("port 0 cannot be used"));
    assert_eq!(
        backend("198.18.1.256:80"),
        at_backend("\"198.18.1.256\" is not an address")
    );
    assert_eq!(
        backend("a_b!.example:80"),
        at_backend("\"a_b!.example\" is neither an address nor a host name")
    );
    assert_eq!(backend("224.0.0.1:80"), at_backend("224.0.0.1 is multicast"));
    assert_eq!(backend(""), at_backend("\"\" cannot be a name"));
}

#[test]
fn backends_of_a_service() {
    check(&[
        (
            "[service.web]\n",
            &[
                "1:1 service \"web\": `listen` is missing",
                "1:1 service \"web\": `backends` is missing",
            ],
        ),
        (
            "[service.web]\nlisten = []\nbackends = []\n",
            &[
                "2:10 service \"web\": listen: the list is empty",
                "3:12 service \"web\": backends: the list is empty",
            ],
        ),
        (
            "[backend.a]\naddress = \"198.18.1.1:1\"\n[backend.b]\naddress = \"198.18.1.1:1\"\n[backend.c]\n\
          address = \"198.18.1.3:1\"\n[service.web]\nlisten = \"198.18.0.1:1\"\n\
          backends = [\"a\", \"a\", \"b\", \"198.18.1.1:1\"]\n",
            &[
                "5:1 warning: backend \"c\": no service uses it",
                "9:18 service \"web\": backend \"a\" is listed twice",
                "9:23 service \"web\": backends \"a\" and \"b\" have the same address",
                "9:28 service \"web\": backends \"a\" and \"198.18.1.1:1\" have the same address",
            ],
        ),
        (
            "[service.web]\nlisten = \"198.18.0.1:1\"\nbackends = [\"pg1\"]\n[backend.pg2]\naddress = \"198.18.1.1:1\"\n",
            &[
                "3:13 service \"web\": backend \"pg1\" is not defined",
                "4:1 warning: backend \"pg2\": no service uses it",
            ],
        ),
        (
            "[backend.a]\n[service.web]\nlisten = \"198.18.0.1:1\"\nbackends = [\"a\"]\n",
            &["1:1 backend \"a\": `address` is missing"],
        ),
        (
            "[backend.a]\naddress = \"198.18.1.1:1\"\nsrv = \"_a._tcp.example\"\n[service.web]\n\
          listen = \"198.18.0.1:1\"\nbackends = [\"a\"]\n",
            &[
                "1:1 backend \"a\": has more than one of address, host and srv",
                "3:1 backend \"a\": srv: resolving the names of backends is not available in this version of Naru yet; \
             remove it to run",
            ],
        ),
        (
            "[backend]\na = \"198.18.1.1:1\"\n[service.web]\nlisten = \"198.18.0.1:1\"\nbackends = [\"a\"]\n",
            &["2:5 backend \"a\": must be a table, not a string"],
        ),
    ]);
    assert_eq!(
        hints("[service.w]\nlisten = \"198.18.0.1:1\"\nbackends = [\"pg1\"]\n"),
        ["add [backend.pg1], or give address:port"]
    );
}

#[test]
fn listens_of_all_services() {
    let two = |a: &str, b: &str| {
        format!("[service.a]\n{a}\nbackends = [\"198.18.1.1:1\"]\n[service.b]\n{b}\nbackends = [\"198.18.1.2:1\"]\n")
    };
    let same = two(
        "listen = \"198.18.0.1:80\"",
        "listen = [\"198.18.0.2:80\", \"198.18.0.1:80\"]",
    );
    assert_eq!(
        found(&same),
        ["5:28 service \"b\": 198.18.0.1:80 is already the listen of service \"a\""]
    );
    assert_eq!(hints(&same), ["first given at 2:10"]);
    let twice = two(
        "listen = [\"198.18.0.1:80\", \"198.18.0.1:80\"]",
        "listen = \"198.18.0.2:80\"",
    );
    assert_eq!(found(&twice), ["2:28 service \"a\": 198.18.0.1:80 is listed twice"]);
    let loops = two("listen = \"198.18.1.2:1\"", "listen = \"198.18.0.2:80\"");
    assert_eq!(
        found(&loops),
        ["6:13 service \"b\": backend \"198.18.1.2:1\" is the listen of service \"a\": a loop"]
    );
    // tcp and udp are apart.
    let apart = two(
        "listen = \"198.18.0.1:80\"",
        "protocol = \"udp\"\nlisten = \"198.18.0.1:80\"",
    );
    assert_eq!(found(&apart), [""; 0]);
}

#[test]
fn weights() {
    check_service(&[
        (
            "weights = { \"198.18.1.11:8080\" = 0, \"198.18.1.12:8080\" = 1000 }",
            &[],
        ),
        ("weights = { \"198.18.1.11:8080\" = 0 }", &[]),
        (
            "weights = { \"198.18.1.11:8080\" = 0, \"198.18.1.12:8080\" = 0 }",
            &["4:11 service \"web\": every weight is 0, so nobody would serve it"],
        ),
        (
            "weights = { \"198.18.1.11:80\" = 2 }",
            &["4:13 service \"web\": weights names \"198.18.1.11:80\", which is not one of its backends"],
        ),
        (
            "weights = { \"198.18.1.11:8080\" = -1 }",
            &["4:34 service \"web\": weights.198.18.1.11:8080: -1 is out of range"],
        ),
    ]);
}

#[test]
fn vrrp_and_dns() {
    let vrrp = |lines: &str| {
        let text =
            format!("[vrrp.a]\ninterface = \"eth0\"\naddresses = [\"198.18.0.1/24\"]\nid = 1\n{lines}\n{SMALLEST}");
        found(&text)
            .into_iter()
            .filter(|line| !line.contains("not available"))
            .collect::<Vec<_>>()
    };
    assert_eq!(vrrp("interval = \"1s\"\npriority = 255\nversion = 2"), [""; 0]);
    assert_eq!(
        vrrp("interval = \"35ms\""),
        ["5:12 vrrp \"a\": this interval cannot be sent"]
    );
    assert_eq!(
        vrrp("interval = \"41s\""),
        ["5:12 vrrp \"a\": this interval cannot be sent"]
    );
    assert_eq!(
        vrrp("version = 2\ninterval = \"30ms\""),
        ["6:12 vrrp \"a\": this interval cannot be sent"]
    );
    assert_eq!(vrrp("priority = 0"), ["5:12 vrrp \"a\": priority: 0 is out of range"]);
    assert_eq!(
        vrrp("preempt = \"yes\""),
        ["5:11 vrrp \"a\": preempt: must be true or false, not a string"]
    );
    assert_eq!(
        vrrp("peers = [\"2001:db8::1\"]"),
        ["5:10 vrrp \"a\": mixes IPv4 and IPv6"]
    );
    assert_eq!(vrrp("track = [{ service = \"web\", weight = -60 }]"), [""; 0]);
    assert_eq!(
        vrrp("track = [{ service = \"wbe\", weight = -60 }]"),
        ["5:22 vrrp \"a\": track: service \"wbe\" is not defined"]
    );
    assert_eq!(
        vrrp("track = [{ service = \"web\" }]"),
        ["5:10 vrrp \"a\": track: `weight` is missing"]
    );
    let again = "[vrrp.b]\ninterface = \"eth0\"\naddresses = [\"198.18.0.2/33\", \"198.18.0.3\"]\nid = 1";
    assert_eq!(
        vrrp(again),
        [
            "7:14 vrrp \"b\": addresses: /33 is not a prefix length",
            "7:31 vrrp \"b\": addresses: \"198.18.0.3\" has no prefix length",
            "8:6 vrrp \"b\": id 1 is taken on eth0",
        ]
    );
    let dns = found(&format!(
        "[dns]\nservers = [\"198.18.0.53\"]\nmin_ttl = \"30s\"\nmax_ttl = \"1s\"\n{SMALLEST}"
    ));
    assert_eq!(
        dns[1..],
        [
            "2:12 [dns]: servers: \"198.18.0.53\" has no port",
            "4:11 [dns]: max_ttl is shorter than min_ttl"
        ]
    );
}

#[test]
fn checks_and_alarms() {
    let check = found(&format!(
        "[check.c]\ntype = \"tcp\"\nevery = \"100ms\"\ntimeout = \"150ms\"\nfall = 0\npath = \"/\"\nexpect = [99]\n{SMALLEST}check = \"cc\"\n"
    ));
    let available = |line: &&String| !line.contains("not available");
    assert_eq!(
        check.iter().filter(available).collect::<Vec<_>>(),
        [
            "4:11 check \"c\": timeout is longer than every",
            "5:8 check \"c\": fall: 0 is out of range",
            "6:8 check \"c\": a check of this type has no path",
            "7:10 check \"c\": a check of this type has no expect",
            "7:11 check \"c\": expect: 99 is out of range",
            "11:9 service \"web\": check \"cc\" is not defined",
        ]
    );
    let alarm = found(&format!(
        "[alarm.a]\nservice = \"web\"\nbackend = \"rack\"\nmetric = \"new_flow\"\nabove = -1\ndatapoints = \"3 of 2\"\n\
         weights = {{ \"198.18.1.11:8080\" = 0, rack = 1 }}\n{SMALLEST}"
    ));
    assert_eq!(
        alarm.iter().filter(available).collect::<Vec<_>>(),
        [
            "3:11 alarm \"a\": \"rack\" is not a backend of the service",
            "4:10 alarm \"a\": metric: unknown value \"new_flow\"",
            "5:9 alarm \"a\": above: must be 0 or more",
            "6:14 alarm \"a\": datapoints: \"3 of 2\" is not \"N of M\"",
            "7:37 alarm \"a\": weights names \"rack\", which is not one of its backends",
        ]
    );
    let unknown = found(&format!(
        "[alarm.a]\nservice = \"webb\"\nmetric = \"bytes\"\nabove = 1.5\nweights = {{}}\n{SMALLEST}"
    ));
    assert_eq!(unknown[1..], ["2:11 alarm \"a\": service \"webb\" is not defined"]);
}

#[test]
fn positions_count_characters() {
    assert_eq!(found(&format!("\u{feff}{SMALLEST}")), [""; 0]);
    let text = SMALLEST
        .replace("[service.web]", "[service.\"wéb\"]")
        .replace('\n', "\r\n");
    assert_eq!(found(&text), ["1:10 service \"wéb\": \"wéb\" cannot be a name"]);
    assert_eq!(
        found("node = { \"ä\" = 1, \"é\" = 2 }\n"),
        ["1:10 [node]: unknown key `ä`", "1:19 [node]: unknown key `é`"]
    );
}
