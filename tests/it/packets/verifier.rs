//! What the kernel's verifier had to do for the programs: well below what it is ready to do.
//!
//! The line it prints is what `cargo xtask vm` shows of each kernel.

use std::time::Instant;

use lb_tests::lab::note;

use super::*;

/// A tenth of the million at which kernels give up: another kernel may walk twice as much for the same program, as 6.12
/// did against 6.1, and every start waits until it has.
const MOST_INSTRUCTIONS: u32 = 100_000;

#[test]
fn the_verifier_stays_far_from_its_limit() {
    let start = Instant::now();
    let Some(runner) = net::runner_of_its_own("the_verifier_stays_far_from_its_limit") else {
        return;
    };
    let ready = start.elapsed().as_millis();
    let programs = runner.kernel.programs().unwrap();
    let walked: BTreeMap<_, _> = programs
        .iter()
        .map(|(name, program)| {
            let walked = program.verified_instruction_count();
            (*name, walked.expect("a kernel since 5.16"))
        })
        .collect();
    note(&format!(
        "verifier: instructions walked {walked:?}; programs and maps ready in {ready} ms"
    ));
    assert!(walked.contains_key("naru"), "{walked:?}");
    assert!(walked.values().all(|walked| *walked <= MOST_INSTRUCTIONS), "{walked:?}");
}
