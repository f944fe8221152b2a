//! `atoll`: one binary, many roles. This file chooses the role; `args` says what can be asked for, `commands` are
//! clients of a plane, `serve` is the plane itself.

mod args;
mod backup;
mod commands;
mod failure;
mod model;
mod plane;
mod printer;
mod serve;
mod state;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Launcher, proxy and a server to measure are roles of their own: started anew, before any thread, with no arguments
    // to parse.
    if let Some(code) = serve::launcher_role() {
        return code;
    }
    if let Some(code) = serve::egress_role() {
        return code;
    }
    if let Some(code) = serve::alone::role() {
        return code;
    }
    let cli = args::Cli::parse();
    let printer = printer::Printer::new(cli.global.json, cli.global.quiet);
    match commands::dispatch(cli, &printer) {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit_code()
        }
    }
}
