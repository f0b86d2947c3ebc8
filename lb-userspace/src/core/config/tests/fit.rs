//! Parts that are right alone and wrong together.

use super::{SMALLEST, check, check_service, found, hints};

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
            &["1:1 backend \"a\": has more than one of address, host and srv"],
        ),
        (
            "[backend.a]\nsrv = \"_a._tcp.example\"\n[backend.b]\nsrv = \"http.example\"\n[service.web]\n\
          listen = \"198.18.0.1:1\"\nmode = \"dsr-l2\"\nbackends = [\"a\", \"b\"]\n",
            &[
                "4:7 backend \"b\": srv: \"http.example\" is not the name of SRV records",
                "8:13 service \"web\": the SRV records of backend \"a\" have ports of their own; mode dsr-l2 does not translate ports",
            ],
        ),
        (
            "[backend.a]\nhost = \"app.example:1\"\n[service.web]\nlisten = \"198.18.0.1:1\"\n\
          backends = [\"a\", \"app.example:1\", \"app.example:2\"]\n",
            &["5:18 service \"web\": backends \"a\" and \"app.example:1\" have the same address"],
        ),
        (
            "[service.web]\nlisten = \"198.18.0.1:1\"\nmode = \"dsr-l2\"\nbackends = [\"app.example:2\"]\n",
            &[
                "4:13 service \"web\": backend \"app.example:2\" is on port 2, the listen on 1; mode dsr-l2 does not \
             translate ports",
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
        (
            "backup = [\"b.example:80\"]\nweights = { \"198.18.1.11:8080\" = 0, \"198.18.1.12:8080\" = 0 }",
            &["5:11 warning: service \"web\": every weight but those of `backup` is 0, so only `backup` serves it"],
        ),
        (
            "backup = [\"b.example:80\"]\nweights = { \"198.18.1.11:8080\" = 0 }",
            &[],
        ),
    ]);
}

#[test]
fn one_service_speaks_one_family() {
    let mixes = |listen: &str, backend: &str, snat: &str| {
        found(&format!(
            "[service.web]\nlisten = {listen}\nbackends = [\"{backend}\"]\nsnat = [\"{snat}\"]\n"
        ))
    };
    let mixed = "service \"web\": mixes IPv6 (2001:db8::1) and IPv4";
    assert_eq!(
        mixes("\"[2001:db8::1]:80\"", "[2001:db8:1::1]:80", "2001:db8:1::2"),
        [""; 0]
    );
    assert_eq!(
        mixes(
            "[\"[2001:db8::1]:80\", \"198.18.0.1:80\"]",
            "[2001:db8:1::1]:80",
            "2001:db8:1::2"
        ),
        [format!("2:31 {mixed} (198.18.0.1)")]
    );
    assert_eq!(
        mixes("\"[2001:db8::1]:80\"", "198.18.1.1:80", "2001:db8:1::2"),
        [format!("3:13 {mixed} (198.18.1.1)")]
    );
    assert_eq!(
        mixes("\"[2001:db8::1]:80\"", "[2001:db8:1::1]:80", "198.18.1.2"),
        [format!("4:9 {mixed} (198.18.1.2)")]
    );
}

#[test]
fn a_pool_of_source_addresses() {
    let pool = |addresses: &[String]| found(&format!("{SMALLEST}snat = [{}]\n", addresses.join(",")));
    let addresses = |count: u8| -> Vec<String> { (0..count).map(|n| format!("\"198.18.1.{}\"", 100 + n)).collect() };
    assert_eq!(pool(&addresses(8)), [""; 0]);
    assert_eq!(
        pool(&addresses(9)),
        ["4:129 service \"web\": snat: more than 8 addresses"]
    );
    let twice = [&addresses(2)[..], &addresses(1)[..]].concat();
    assert_eq!(
        pool(&twice),
        ["4:39 service \"web\": snat 198.18.1.100 is listed twice"]
    );
    assert_eq!(
        pool(&["\"fe80::1\"".to_owned()])[0],
        "4:9 service \"web\": snat: fe80::1 is link-local: it says nothing without its interface"
    );
}

#[test]
fn ports_are_translated_by_nat_only() {
    let service = |mode: &str| {
        found(&format!(
            "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\", \"198.18.1.12:8080\"]\nmode = \"{mode}\"\n"
        ))
    };
    assert_eq!(service("nat"), [""; 0]);
    for mode in ["dsr-l2", "dsr-ipip"] {
        assert_eq!(
            service(mode),
            [format!(
                "3:31 service \"web\": backend \"198.18.1.12:8080\" is on port 8080, the listen on 80; mode {mode} does not \
                 translate ports"
            )]
        );
    }
}

#[test]
fn name_servers() {
    let dns = found(&format!(
        "[dns]\nservers = [\"198.18.0.53\"]\nmin_ttl = \"30s\"\nmax_ttl = \"1s\"\n{SMALLEST}"
    ));
    assert_eq!(
        dns,
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
    assert_eq!(unknown, ["2:11 alarm \"a\": service \"webb\" is not defined"]);
    let alarm = |keys: &str| {
        found(&format!(
            "[alarm.a]\nservice = \"web\"\nmetric = \"bytes\"\nabove = 1\n{keys}\n\
             [service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.1:80\", \"198.18.1.2:80\"]\n\
             weights = {{ \"198.18.1.1:80\" = 0 }}\n"
        ))
    };
    let zero = ["5:11 alarm \"a\": every weight is 0, so nobody would serve it"];
    assert_eq!(alarm("weights = { \"198.18.1.2:80\" = 0 }"), zero);
    assert_eq!(
        alarm("weights = { \"198.18.1.1:80\" = 1, \"198.18.1.2:80\" = 0 }"),
        [""; 0]
    );
    assert_eq!(alarm("weights = {}"), [""; 0]);
    let short = ["5:10 alarm \"a\": this period is too short"];
    assert_eq!(alarm("period = \"999ms\"\nweights = {}"), short);
    let missing = ["1:1 alarm \"a\": `weights` is missing"];
    assert_eq!(alarm("missing = \"ok\""), missing);
}

#[test]
fn checks_that_cannot_be_asked() {
    let check = |keys: &str| {
        let used = "[service.s]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.1:80\"]\ncheck = \"c\"\n";
        let found = found(&format!("[check.c]\n{keys}\n{used}"));
        found
            .into_iter()
            .filter(|line| !line.contains("not available"))
            .collect::<Vec<_>>()
    };
    let cases = [
        (
            "type = \"http\"\nconnect_timeout = \"200ms\"\ntimeout = \"100ms\"",
            "3:19 check \"c\": connect_timeout is longer than timeout",
        ),
        (
            "type = \"http\"\nmethod = \"GET /\"",
            "3:10 check \"c\": method: \"GET /\" is not a method",
        ),
        (
            "type = \"http\"\npath = \"healthz\"",
            "3:8 check \"c\": path: \"healthz\" is not a path",
        ),
        (
            "type = \"http\"\nhost = \"a b\"",
            "3:8 check \"c\": host: \"a b\" is not a host name",
        ),
        (
            "type = \"http\"\nheaders = { \"X Y\" = \"1\" }",
            "3:13 check \"c\": headers: \"X Y\" is not a header",
        ),
        (
            "type = \"http\"\nheaders = { X = \"a\\nb\" }",
            "3:17 check \"c\": headers: \"a\\nb\" cannot be sent",
        ),
        (
            "type = \"http\"\nexpect = [\"400-300\"]",
            "3:11 check \"c\": expect: \"400-300\" is not a range of status codes",
        ),
        (
            "type = \"http\"\nca = \"/a\"",
            "3:6 check \"c\": a check of this type has no ca",
        ),
        (
            "type = \"https\"\nca = \"/a\"\nverify = false",
            "3:6 check \"c\": ca names whom to trust, and verify = false trusts everybody",
        ),
        (
            "type = \"postgres\"\nverify = false",
            "3:10 check \"c\": verify without TLS",
        ),
        ("type = \"exec\"", "1:1 check \"c\": `command` is missing"),
        (
            "type = \"exec\"\ncommand = [\"probe\"]",
            "3:12 check \"c\": command: \"probe\" is not an absolute path",
        ),
        (
            "type = \"exec\"\ncommand = [\"/bin/true\"]\nport = 1",
            "4:8 check \"c\": a check of this type has no port",
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(check(keys), [expected], "for\n{keys}");
    }
    // A server may answer slowly and often be asked.
    assert_eq!(check("type = \"http\"\nevery = \"100ms\"\ntimeout = \"2s\""), [""; 0]);
}
