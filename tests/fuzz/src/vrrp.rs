//! libFuzzer's way into the laws of VRRP; what they are is in `lb_tests::vrrp::laws`.
#![no_main]

use lb_tests::vrrp::laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::hold(input));
