//! Seeds. A failure prints its seed; `ATOLL_SIM_SEED` runs that one alone.

use std::time::{SystemTime, UNIX_EPOCH};

use atoll_sim::{Settings, simulate};

/// Always the same, so that a change that breaks one of them is seen at once.
const FIXED: [u64; 3] = [1, 2, 6];
/// The same, in weather so bad that every third request meets with something.
const STORMS: [u64; 2] = [11, 12];
/// How many new ones are run when there is time.
const SOAK_SEEDS: u64 = 500;
/// And how many of them in storms.
const SOAK_STORMS: u64 = 100;

fn run(seed: u64, settings: &Settings) {
    match simulate(seed, settings) {
        Ok(report) => println!("seed {seed}: {report}"),
        Err(violation) => panic!("{violation}\nrun it again with ATOLL_SIM_SEED={seed}"),
    }
}

fn asked_for() -> Option<u64> {
    std::env::var("ATOLL_SIM_SEED").ok()?.parse().ok()
}

/// Whether there is time for many.
fn is_soak() -> bool {
    std::env::var_os("ATOLL_SOAK").is_some() && asked_for().is_none()
}

fn fresh() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(elapsed.as_nanos() % u128::from(u32::MAX)).expect("it is small")
}

#[test]
fn promises_are_kept_in_fixed_weather() {
    let seeds = asked_for().map_or_else(|| FIXED.to_vec(), |seed| vec![seed]);
    for seed in seeds {
        run(seed, &Settings::default());
    }
}

#[test]
fn promises_are_kept_in_new_weather() {
    let first = asked_for().unwrap_or_else(fresh);
    println!("fresh seed {first}");
    for seed in first..first + if is_soak() { SOAK_SEEDS } else { 1 } {
        run(seed, &Settings::default());
    }
}

#[test]
fn promises_are_kept_in_storms() {
    let storm = Settings { faults_per_mille: 300, crashes: 8, ..Settings::default() };
    let mut seeds = asked_for().map_or_else(|| STORMS.to_vec(), |seed| vec![seed]);
    if is_soak() {
        let first = fresh();
        seeds.extend(first..first + SOAK_STORMS);
    }
    for seed in seeds {
        run(seed, &storm);
    }
}

#[test]
fn promises_are_kept_in_good_weather() {
    run(7, &Settings { faults_per_mille: 0, crashes: 0, ..Settings::default() });
}
