//! Builds the static guest and puts it where this crate embeds it from.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

include!("../atoll-guest/build_static.rs");

fn main() {
    for path in ["../atoll-guest/src", "../atoll-guest/Cargo.toml", "../atoll-guest/build_static.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let guest = match build_static_guest() {
        Ok(path) => std::fs::read(path).expect("the guest was just built"),
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            return;
        }
    };
    // Tells versions of the guest apart; nothing depends on it being hard to forge.
    let mut hasher = DefaultHasher::new();
    guest.hash(&mut hasher);
    std::fs::write(out.join("atoll-guest"), &guest).expect("OUT_DIR is writable");
    std::fs::write(out.join("atoll-guest.digest"), format!("{:016x}", hasher.finish())).expect("OUT_DIR is writable");
}
