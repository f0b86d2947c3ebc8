//! What cannot be done yet is said once for each section and key, at its place.

use super::{SMALLEST, found};

#[test]
fn keys_of_a_service() {
    let cases = [
        ("mode = \"nat\"", vec![]),
        ("algorithm = \"least-connections\"", vec![]),
        ("on_down = \"drain\"", vec![]),
        ("on_down = \"reset\"", vec![]),
        (
            "[web]\nlisten = \"127.0.0.1:8404\"",
            vec![(4, 1, "[web]: the status pages are")],
        ),
        ("[dns]", vec![]),
        (
            "[vrrp.v]\ninterface = \"eth0\"\nid = 1\naddresses = [\"198.18.0.1/24\"]",
            vec![],
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(found(&format!("{SMALLEST}{line}\n")), lines(&expected), "for {line}");
    }
}

fn lines(expected: &[(usize, usize, &str)]) -> Vec<String> {
    let line = |(line, column, what): &(usize, usize, &str)| {
        format!("{line}:{column} {what} not available in this version of Naru yet; remove it to run")
    };
    expected.iter().map(line).collect()
}
