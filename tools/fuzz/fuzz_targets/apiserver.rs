//! All entry points of the API server: the first byte of an input says which.
//!
//! `cargo +nightly fuzz run --fuzz-dir tools/fuzz apiserver tools/fuzz/seeds -- -max_total_time=60`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let targets = atoll_apiserver::fuzzing::TARGETS;
    (targets[usize::from(*first) % targets.len()].run)(rest);
});
