//! Every file in `scenarios/` goes as it is written.

use std::path::Path;

use lb_tests::scenario::{Stage, play_all};

#[test]
fn scenarios_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/scenarios");
    if let Err(error) = play_all::<Stage>(&folder) {
        panic!("{error:#}");
    }
}
