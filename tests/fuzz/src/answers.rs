//! libFuzzer's way to what holds whatever name servers send; what that is is in `lb_tests::answers`.
#![no_main]

use lb_tests::answers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| answers::hold(input));
