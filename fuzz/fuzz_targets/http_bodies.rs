//! See `http_bodies` in `tests/fuzz/targets.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::targets::http_bodies(data));
