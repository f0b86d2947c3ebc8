//! Every file in `scenarios/` goes as it is written.

use std::path::Path;

#[test]
fn scenarios_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/scenarios");
    if let Err(error) = lb_tests::scenario::play_all(&folder) {
        panic!("{error:#}");
    }
}
