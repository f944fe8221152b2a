//! `atoll demo`: the whole of Atoll in one go, on a plane of its own that is gone afterwards.

mod project;
mod sandbox_tour;

use std::process::ExitCode;
use std::time::Instant;

use atoll_sandbox::{LeakCount, Tier, leak_count};

use super::bench::{private_plane, private_state_dir};
use super::events::{EventPrinter, follow};
use super::{ask, audit, block_on, doctor, lifecycle, runs, trace};
use crate::args::{DemoArgs, ModelArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::model::{ModelChoice, ModelEnvironment};
use crate::plane::{Plane, require_root, start_in_background};
use crate::printer::Printer;
use crate::state::StateDir;

const TASK: &str = "One test of this project fails. Find out why, repair it, and show that all tests pass.";

pub(crate) fn demo(args: &DemoArgs, printer: &Printer) -> Outcome {
    require_root()?;
    let started = Instant::now();
    let dir = private_state_dir("atoll-demo-")?;

    printer.heading("1. This machine");
    let findings = doctor::findings(dir.path());
    doctor::short_form(&findings, printer);
    // The strongest that this machine has.
    let tier = if doctor::is_available(&findings, Tier::Gvisor) { Tier::Gvisor } else { Tier::Native };

    printer.heading("2. A plane of its own");
    let project = project::Project::create(dir.path())?;
    let model = choose_model(args, &project, printer);
    let state = StateDir::new(&dir.path().join("state"));
    let starting = Instant::now();
    let info = start_in_background(&state, &private_plane(model)?)?;
    printer.data(format!("API {}, router {}, model: {}", info.api_url, info.router_url, info.model));
    printer.data(format!("up after {} ms", starting.elapsed().as_millis()));

    let plane = Plane::connect(state.clone(), info.clone())?;
    let shown = block_on(show(&plane, &project, tier, args, printer));
    if args.keep {
        let path = dir.keep();
        printer.heading("Kept");
        lifecycle::tell(&state, &info, printer);
        printer.data(format!("project          {}", project.path().display()));
        printer.data(format!("stop it with     atoll --state-dir {} down", path.join("state").display()));
        return shown;
    }
    let stopped = lifecycle::stop(&state, &info, false);
    let code = shown?;
    stopped?;
    let left = leak_count(state.root());
    dir.close().map_err(|error| Failure::because(Exit::Failure, "cannot remove the demo's files", &error))?;
    say_what_is_left(left, printer)?;
    printer.data(printer.dim(&format!("{:.1} s in all", started.elapsed().as_secs_f64())));
    Ok(code)
}

async fn show(plane: &Plane, project: &project::Project, tier: Tier, args: &DemoArgs, printer: &Printer) -> Outcome {
    printer.heading("3. Sandboxes: a template, a warm pool, a claim");
    let claimed = sandbox_tour::claim_one(plane, tier, printer).await?;

    printer.heading("4. Untrusted Python inside");
    sandbox_tour::look_around(plane, &claimed, tier, printer).await?;

    printer.heading("5. The team: planner, code-writer, code-reviewer");
    printer.data(format!("task: {TASK}"));
    let repository = project.repository()?;
    let snapshot = repository.snapshot(false)?;
    let run = ask::submit(plane, TASK, snapshot, args.model.model.clone()).await?;
    let mut events = EventPrinter::new(printer);
    let end = follow(plane, &run, |event| events.show(event)).await?;
    if let Some(text) = &end.final_text {
        printer.data("");
        printer.data(text);
    }

    printer.heading("6. The result is a commit on a branch; the checkout is as it was");
    let branch = runs::fetch_result(plane, &run, &repository).await?;
    printer.data(project.describe(&branch)?);

    printer.heading("7. The trace");
    trace::show(plane, &run, printer).await?;

    printer.heading("8. The audit trail");
    audit::verify(plane, None, printer).await?;
    if end.outcome.name == atoll_api::v1::OutcomeName::Completed {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::RunFailed, format!("the run ended without success: {}", end.outcome.message))
        .hint_of(end.outcome.hint))
}

/// A configured model, or the written conversation.
fn choose_model(args: &DemoArgs, project: &project::Project, printer: &Printer) -> ModelArgs {
    match ModelChoice::resolve(&args.model, &ModelEnvironment::read()) {
        ModelChoice::None => {
            printer
                .data("No model is configured, so the model is a *scripted upstream*: a real HTTP server that speaks");
            printer
                .data("Chat Completions with streaming and tool calls, and plays a written conversation. Nothing else");
            printer.data("is played: tools, sandboxes, policy, git, traces and audit below are real.");
            ModelArgs { model: None, script: Some(project.conversation().to_owned()) }
        }
        ModelChoice::Scripted(_) | ModelChoice::Upstreams { .. } => args.model.clone(),
    }
}

fn say_what_is_left(left: std::io::Result<LeakCount>, printer: &Printer) -> Result<(), Failure> {
    let left = left.map_err(|error| Failure::because(Exit::Failure, "cannot count what is left", &error))?;
    printer.heading("Gone again");
    let LeakCount { processes, cgroups, mounts, netns, links, rules: _, files } = left;
    printer.data(format!(
        "left behind: {processes} processes, {cgroups} cgroups, {mounts} mounts, {netns} network namespaces, \
         {links} links, {files} sandbox files"
    ));
    // Links are counted for the whole machine: those of another plane are not this one's.
    if (LeakCount { links: 0, rules: 0, ..left }) == LeakCount::default() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, "something was left behind"))
}
