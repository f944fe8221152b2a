//! `cargo xtask`: the one entry to checks, tests and generated files. Depends on no crate of the workspace, so that it
//! works when the tree does not compile.

mod environment;
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
  soak      the long counts of the tests, with a dated report under target/soak/
  schemas   makes schemas/ again
  protobuf  makes schemas/protobuf.txt again (needs go)
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let result = match command.as_str() {
        "tidy" => tidy::run(),
        "test" => suite::test(),
        "soak" => suite::soak(),
        "schemas" => schemas::generate(),
        "protobuf" => protobuf::generate(),
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
