#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| martlet::fuzzing::qcow2(data));
