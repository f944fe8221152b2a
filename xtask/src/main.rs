//! `cargo xtask`: the one entry to checks, tests and generated files. Depends on no crate of the workspace, so that it
//! works when the tree does not compile.

mod attack;
mod clusters;
mod environment;
mod kube;
mod outcome;
mod protobuf;
mod schemas;
mod suite;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
cargo xtask COMMAND

  tidy      layers, lints, formatting, names: no test is run
  test      everything that CI runs, ending in one summary line
  attack    every attack on sandboxes in every tier that there is here, as a table in docs/security.md (needs root)
  soak      the long counts of the tests, with a dated report under target/soak/
  schemas   makes schemas/ again
  protobuf  makes schemas/protobuf.txt again (needs go)
  differential
            records what a real kube-apiserver answers to the table of requests, and compares ours with it
  cluster   runs the tests of the controllers on a real control plane with pretended nodes
  kube      runs a real Kubernetes control plane until Ctrl-C, and prints where it is
            (--controller-manager --scheduler --nodes=N --audit --no-fsync --identity=FILE=USER,GROUP)
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "tidy" => tidy::run(),
        "test" => suite::test(),
        "attack" => attack::run(),
        "soak" => suite::soak(),
        "schemas" => schemas::generate(),
        "protobuf" => protobuf::generate(),
        "differential" => clusters::differential(),
        "cluster" => clusters::cluster(rest.first().map_or("", String::as_str)),
        "kube" => kube::run(&rest),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    finish(result)
}

fn finish(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for the person who ran this.
fn say(line: &str) {
    use std::io::Write;
    // Nobody is left to tell when standard output is closed.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
