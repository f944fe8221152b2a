//! `atoll runs`: look at runs, stop them, take their results.

use std::process::ExitCode;

use atoll_api::v1;

use super::events::{EventPrinter, follow};
use super::git;
use super::pull_request;
use crate::args::{GlobalArgs, RunsCommand};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::{Plane, accept};
use crate::printer::Printer;

pub(crate) async fn runs(global: &GlobalArgs, command: RunsCommand, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    match command {
        RunsCommand::Ls => list(&plane, printer).await,
        RunsCommand::Show { run, follow } => show(&plane, &run, follow, printer).await,
        RunsCommand::Cancel { run } => {
            let run = resolve_run(&plane, &run).await?;
            let summary: v1::RunSummary =
                plane.post(&format!("/v1/runs/{run}/cancel"), &v1::CancelRun::default()).await?;
            if printer.is_json() {
                printer.json(&summary);
            } else {
                printer.data(format!("cancelling {}", summary.run_id));
            }
            Ok(ExitCode::SUCCESS)
        }
        RunsCommand::Pause { run } => steer(&plane, &run, "pause", &serde_json::json!({}), printer).await,
        RunsCommand::Resume { run } => steer(&plane, &run, "resume", &serde_json::json!({}), printer).await,
        RunsCommand::Tell { run, text, agent } => {
            steer(&plane, &run, "messages", &v1::TellAgent { text, agent }, printer).await
        }
        RunsCommand::Steps { run } => steps(&plane, &run, printer).await,
        RunsCommand::Undo { run, step } => {
            let run = resolve_run(&plane, &run).await?;
            let summary: v1::RunSummary = plane.post(&format!("/v1/runs/{run}/undo"), &v1::UndoRun { step }).await?;
            if printer.is_json() {
                printer.json(&summary);
            } else if let Some(result) = &summary.result {
                printer
                    .data(format!("{} is at {} now; `atoll runs fetch {run}` takes it", result.branch, result.commit));
            }
            Ok(ExitCode::SUCCESS)
        }
        RunsCommand::Pr { run, base } => {
            let run = resolve_run(&plane, &run).await?;
            pull_request::open(&plane, &run, base, printer).await
        }
        RunsCommand::Fetch { run, repo } => {
            let run = resolve_run(&plane, &run).await?;
            let branch = fetch_result(&plane, &run, &git::Repository::open(&repo)?).await?;
            printer.data(format!("fetched {branch}"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn steps(plane: &Plane, run: &str, printer: &Printer) -> Outcome {
    let run = resolve_run(plane, run).await?;
    let list: v1::CheckpointList = plane.get(&format!("/v1/runs/{run}/checkpoints")).await?;
    if printer.is_json() {
        printer.json(&list);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |step: &v1::Checkpoint| {
        let commit: String = step.commit.chars().take(12).collect();
        vec![step.step.to_string(), commit, step.author.clone(), first_line(&step.title)]
    };
    let rows: Vec<Vec<String>> = list.checkpoints.iter().map(row).collect();
    printer.table(&["STEP", "COMMIT", "AUTHOR", "TITLE"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// Asks something of a run that is under way.
async fn steer(plane: &Plane, run: &str, what: &str, body: &impl serde::Serialize, printer: &Printer) -> Outcome {
    let run = resolve_run(plane, run).await?;
    let summary: v1::RunSummary = plane.post(&format!("/v1/runs/{run}/{what}"), body).await?;
    if printer.is_json() {
        printer.json(&summary);
    } else {
        printer.data(format!("{}: {}", summary.run_id, state(&summary)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The one run whose id begins with `prefix`.
pub(crate) async fn resolve_run(plane: &Plane, prefix: &str) -> Result<String, Failure> {
    let list: v1::RunList = plane.get("/v1/runs").await?;
    let mut matching = list.runs.iter().filter(|run| run.run_id.starts_with(prefix));
    match (matching.next(), matching.next()) {
        (Some(run), None) => Ok(run.run_id.clone()),
        (Some(_), Some(_)) => Err(Failure::new(Exit::Usage, format!("{prefix:?} begins more than one run"))
            .hint("write more of the id; `atoll runs ls` lists them")),
        (None, _) => {
            Err(Failure::new(Exit::NotFound, format!("no run begins with {prefix:?}"))
                .hint("`atoll runs ls` lists them"))
        }
    }
}

/// Takes a finished run's branch into a repository. The repository's hooks and configuration play no part.
pub(crate) async fn fetch_result(plane: &Plane, run: &str, repo: &git::Repository) -> Result<String, Failure> {
    let detail: v1::RunDetail = plane.get(&format!("/v1/runs/{run}")).await?;
    let result = detail.summary.result.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("run {run} has made no commit"))
            .hint(format!("`atoll runs show {run}` tells where it stands"))
    })?;
    let response = accept(plane.request(reqwest::Method::GET, &format!("/v1/runs/{run}/bundle")).send().await).await?;
    let bundle = response
        .bytes()
        .await
        .map_err(|error| Failure::because(Exit::Failure, "the result broke off while it was read", &error))?;
    repo.fetch_bundle(&bundle, &result.branch)?;
    Ok(result.branch)
}

async fn list(plane: &Plane, printer: &Printer) -> Outcome {
    let list: v1::RunList = plane.get("/v1/runs").await?;
    if printer.is_json() {
        printer.json(&list);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = list
        .runs
        .iter()
        .map(|run| {
            vec![
                run.run_id.clone(),
                state(run),
                run.steps.to_string(),
                (run.usage.input_tokens + run.usage.output_tokens).to_string(),
                first_line(&run.task),
            ]
        })
        .collect();
    printer.table(&["RUN", "STATE", "STEPS", "TOKENS", "TASK"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn state(run: &v1::RunSummary) -> String {
    match (&run.outcome, run.status) {
        (Some(outcome), _) => format!("{:?}", outcome.name),
        (None, v1::RunStatus::WaitingForApproval) => "waits for approval".to_owned(),
        (None, status) => format!("{status:?}"),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(60).collect()
}

async fn show(plane: &Plane, run: &str, keep_following: bool, printer: &Printer) -> Outcome {
    let run = resolve_run(plane, run).await?;
    if keep_following {
        let mut events = EventPrinter::new(printer);
        follow(plane, &run, |event| events.show(event)).await?;
    }
    let detail: v1::RunDetail = plane.get(&format!("/v1/runs/{run}")).await?;
    if printer.is_json() {
        printer.json(&detail);
        return Ok(ExitCode::SUCCESS);
    }
    describe(&detail, printer);
    Ok(ExitCode::SUCCESS)
}

fn describe(detail: &v1::RunDetail, printer: &Printer) {
    let summary = &detail.summary;
    printer.data(format!("run      {}", summary.run_id));
    printer.data(format!("task     {}", first_line(&summary.task)));
    printer.data(format!("state    {}", state(summary)));
    if let Some(outcome) = &summary.outcome {
        printer.data(format!("outcome  {}", outcome.message));
        if let Some(hint) = &outcome.hint {
            printer.data(format!("hint     {hint}"));
        }
    }
    printer.data(format!(
        "tokens   {} in, {} out, {} steps",
        summary.usage.input_tokens, summary.usage.output_tokens, summary.steps
    ));
    if summary.microusd > 0 {
        printer.data(format!("money    {}", dollars(summary.microusd)));
    }
    for line in detail.budgets.iter().filter(|line| line.agent.id == 0) {
        printer.data(format!("budget   {}", budget(line)));
    }
    if let Some(result) = &summary.result {
        printer.data(format!(
            "result   {} on {} (take it with `atoll runs fetch {}`)",
            result.commit, result.branch, summary.run_id
        ));
    }
    if summary.pending_approvals > 0 {
        printer.data(format!("waits    for {} approvals: `atoll approve`", summary.pending_approvals));
    }
    let rows: Vec<Vec<String>> = detail
        .agents
        .iter()
        .map(|agent| {
            vec![
                format!("{} #{}", agent.agent.name, agent.agent.id),
                agent.sandbox.clone().unwrap_or_else(|| "-".to_owned()),
                agent.steps.to_string(),
                agent.tool_calls.to_string(),
                (agent.usage.input_tokens + agent.usage.output_tokens).to_string(),
                dollars(agent.microusd),
                agent.outcome.as_ref().map_or_else(|| "working".to_owned(), |outcome| format!("{:?}", outcome.name)),
            ]
        })
        .collect();
    printer.data("");
    printer.table(&["AGENT", "SANDBOX", "STEPS", "TOOLS", "TOKENS", "MONEY", "OUTCOME"], &rows);
    for line in detail.budgets.iter().filter(|line| line.agent.id > 0) {
        printer.data(format!("{} #{} has used {}", line.agent.name, line.agent.id, budget(line)));
    }
    if let Some(text) = &detail.final_text {
        printer.data("");
        printer.data(text);
    }
}

/// Millionths of a dollar for people.
fn dollars(microusd: u64) -> String {
    format!("${}.{:04}", microusd / 1_000_000, microusd % 1_000_000 / 100)
}

fn budget(line: &v1::BudgetLine) -> String {
    let show = |amount: u64| match line.resource {
        v1::Resource::Microusd => dollars(amount),
        v1::Resource::Steps | v1::Resource::Tokens => amount.to_string(),
    };
    let unit = match line.resource {
        v1::Resource::Microusd => "",
        v1::Resource::Steps => " model calls",
        v1::Resource::Tokens => " tokens",
    };
    let reserved = if line.reserved > 0 { format!(", {} reserved", show(line.reserved)) } else { String::new() };
    format!("{} of {}{unit}{reserved}", show(line.spent), show(line.cap))
}
