//! One mistake, or a few, and every line it is answered with.

use super::{SMALLEST, check, check_service, found, hints};

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
        ("[check.a]\ntype = \"tcp\"\nevery = 2s\n", &["3:9 `2s` needs quotes"]),
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
            &["4:1 vrrp \"main\": unknown key `prioritty`"],
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
            &["4:14 service \"web\": max_active: must be a whole number, not a string"],
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
    let six = |text: &str| with(text, "[2001:db8:1::11]:80");
    assert_eq!(six("[2001:DB8::100]:80"), [""; 0]);
    assert_eq!(six("2001:db8::100"), at_listen("\"2001:db8::100\" has no port"));
    assert_eq!(six("[2001:db8::100]"), at_listen("\"[2001:db8::100]\" has no port"));
    assert_eq!(six("[::]:80"), at_listen(":: stands for every address"));
    assert_eq!(six("[ff02::12]:80"), at_listen("ff02::12 is multicast"));
    assert_eq!(
        six("[::1]:80"),
        at_listen("::1 is a loopback address, which no packet on a wire carries")
    );
    assert_eq!(
        six("[fe80::100]:80"),
        at_listen("fe80::100 is link-local: it says nothing without its interface")
    );
    assert_eq!(
        six("[::ffff:198.18.0.100]:80"),
        at_listen("::ffff:198.18.0.100 is an IPv4 address")
    );
    assert_eq!(
        six("[2001:db8::100%2]:80"),
        at_listen("\"[2001:db8::100%2]:80\" names an interface, which routes find by themselves")
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
