//! What must hold on the host alone, of the data path and of names: for what the fuzzer has found worth keeping, and for
//! random frames.

use std::fs;
use std::path::Path;

use lb_tests::answers;
use lb_tests::packets::{Generator, laws};

#[test]
fn they_hold_for_the_corpus() {
    replay("data-path", 100, laws::hold);
}

#[test]
fn they_hold_for_answers_of_name_servers() {
    replay("answers", 5, answers::hold);
}

fn replay(corpus: &str, least: usize, hold: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("the folder of the corpus") {
        let path = entry.expect("its entry").path();
        println!("{}", path.display());
        hold(&fs::read(&path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > least, "{inputs} inputs in {}", folder.display());
}

/// The generator cannot answer here what it did not see sent; services and clients still meet each other.
#[test]
fn they_hold_for_random_frames() {
    for seed in 0..300 {
        let mut generator = Generator::new(seed);
        let frames: Vec<_> = (0..40).map(|_| generator.frame().1).collect();
        println!("seed {seed}");
        laws::hold(&laws::input(frames.iter().map(Vec::as_slice)));
    }
}
