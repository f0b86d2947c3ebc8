//! VRRP without a network: every story in `vrrp/` goes as it is written, and what holds whatever happens.

mod keys;
mod laws;
mod trouble;

use std::path::Path;

use lb_tests::scenario::play_all;
use lb_tests::vrrp::stage::Stage;

#[test]
fn stories_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/vrrp");
    if let Err(error) = play_all::<Stage>(&folder) {
        panic!("{error:#}");
    }
}
