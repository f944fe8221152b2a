//! The commands: clients of a plane, except `up`, which is one.

mod approve;
mod ask;
mod audit;
mod backup;
mod bench;
mod controllers;
mod demo;
mod doctor;
mod egress;
mod events;
mod git;
mod image;
mod lifecycle;
mod policy;
mod pull_request;
mod run;
mod runs;
mod sandbox;
mod session;
mod trace;

pub(crate) use lifecycle::tell;
pub(crate) use policy::load as load_policy;

use std::future::Future;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Command};
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::Printer;

/// Runs the command.
pub(crate) fn dispatch(cli: Cli, printer: &Printer) -> Outcome {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => demo::demo(&args, printer),
        Command::Up(args) => lifecycle::up(global, &args, printer),
        Command::Down(args) => lifecycle::down(global, &args, printer),
        Command::Status => block_on(lifecycle::status(global, printer)),
        Command::Doctor(args) => doctor::doctor(global, &args, printer),
        Command::Run(args) => run::run(global, args, printer),
        Command::Sandbox(command) => block_on(sandbox::sandbox(global, command, printer)),
        Command::Image(command) => image::image(global, command, printer),
        Command::Ask(args) => ask::ask(global, &args, printer),
        Command::Runs(command) => block_on(runs::runs(global, command, printer)),
        Command::Approve(args) => block_on(approve::approve(global, &args, printer)),
        Command::Trace(command) => block_on(trace::trace(global, command, printer)),
        Command::Audit(command) => block_on(audit::audit(global, command, printer)),
        Command::Policy(command) => policy::policy(global, command, printer),
        Command::Backup(args) => backup::backup(global, &args, printer),
        Command::Restore(args) => backup::restore(global, &args, printer),
        Command::Egress(command) => block_on(egress::egress(global, command, printer)),
        Command::Bench(command) => bench::bench(global, &command, printer),
        Command::Controllers(args) => controllers::controllers(&args, printer),
        Command::Crds { v1alpha1 } => controllers::crds(v1alpha1, printer),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "atoll", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Drives one command's future: clients need one thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because(Exit::Machine, "cannot start the runtime", &error))?;
    let outcome = runtime.block_on(future);
    // A read of standard input in flight would hold a plain drop up for ever.
    runtime.shutdown_background();
    outcome
}
