//! libFuzzer's way into the laws of the data path; what they are is in `lb_tests::packets::laws`.
#![no_main]

use lb_tests::packets::laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::hold(input));
