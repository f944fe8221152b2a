//! `atoll ask`: a task for the team, followed until it ends.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use atoll_api::v1;

use super::block_on;
use super::events::{EventPrinter, RunEnd, follow};
use super::git::{Repository, Snapshot};
use super::pull_request;
use super::runs::fetch_result;
use crate::args::{AskArgs, GlobalArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

pub(crate) fn ask(global: &GlobalArgs, args: &AskArgs, printer: &Printer) -> Outcome {
    if args.task.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "the task is empty").hint("say what is to be done, in your words"));
    }
    // The repository is looked at first: nothing is started for a task that cannot begin.
    let repository = Repository::open(&args.repo)?;
    let snapshot = repository.snapshot(args.allow_dirty)?;
    let plane = Plane::find_or_start(global, &args.model, printer)?;
    block_on(async {
        let run_id = submit(&plane, &args.task, snapshot, args.model.model.clone()).await?;
        if args.detach {
            printer.data(&run_id);
            return Ok(ExitCode::SUCCESS);
        }
        let (plane, run_id) = (&plane, run_id.as_str());
        let Some(ended) = follow_interactively(plane, run_id, printer).await? else { return Ok(ExitCode::SUCCESS) };
        let code = conclude(plane, run_id, &ended, &repository, printer).await?;
        if args.pr && ended.result.is_some() {
            return pull_request::open(plane, run_id, None, printer).await;
        }
        Ok(code)
    })
}

/// Hands the task in. The run is durable when this returns its id.
pub(crate) async fn submit(
    plane: &Plane,
    task: &str,
    snapshot: Snapshot,
    model: Option<String>,
) -> Result<String, Failure> {
    let stored: v1::BlobStored = plane.put_bytes("/v1/blobs", snapshot.bundle).await?;
    let body = v1::SubmitTask {
        task: task.to_owned(),
        repo: Some(v1::RepoSource {
            bundle_sha256: stored.sha256,
            commit: snapshot.commit,
            branch: snapshot.branch,
            remote_url: snapshot.remote_url,
            name: snapshot.name,
        }),
        model,
        agent: None,
        submission_key: Some(atoll_rt::ids::ulid()),
    };
    let accepted: v1::TaskAccepted = plane.post("/v1/tasks", &body).await?;
    Ok(accepted.run_id)
}

/// Follows a run to its end; `None` when the person leaves it running.
async fn follow_interactively(plane: &Plane, run_id: &str, printer: &Printer) -> Result<Option<RunEnd>, Failure> {
    let mut events = EventPrinter::new(printer);
    let ended = {
        let following = follow(plane, run_id, |event| events.show(event));
        tokio::pin!(following);
        loop {
            tokio::select! {
                ended = &mut following => break ended?,
                _ = tokio::signal::ctrl_c() => {
                    if leave_running(run_id, printer).await {
                        return Ok(None);
                    }
                    let _: v1::RunSummary =
                        plane.post(&format!("/v1/runs/{run_id}/cancel"), &v1::CancelRun::default()).await?;
                }
            }
        }
    };
    Ok(Some(ended))
}

/// Asks what Ctrl-C means. Without a terminal to ask on, the run is left alone: nothing is lost by that.
async fn leave_running(run_id: &str, printer: &Printer) -> bool {
    printer.note("");
    if !std::io::stdin().is_terminal() {
        printer.note(format!("left running: `atoll runs show {run_id} --follow`"));
        return true;
    }
    printer.note("[c] cancel the run   [Enter] leave it running in the background");
    let answer = atoll_rt::TaskGroup::new("ask").spawn_blocking("question", || {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line).unwrap_or_default()
    });
    let answer = tokio::select! {
        answer = answer => answer.unwrap_or_default(),
        // A second Ctrl-C means: leave me alone.
        _ = tokio::signal::ctrl_c() => String::new(),
    };
    let leave = !answer.trim().eq_ignore_ascii_case("c");
    if leave {
        printer.note(format!("left running: `atoll runs show {run_id} --follow`"));
    }
    leave
}

/// Takes the result home and says how it went.
async fn conclude(plane: &Plane, run_id: &str, ended: &RunEnd, repository: &Repository, printer: &Printer) -> Outcome {
    if let Some(result) = &ended.result {
        let branch = fetch_result(plane, run_id, repository).await?;
        printer.note(format!(
            "result: branch {branch} ({} commits, {} files, +{} -{}); look at it with `git log -p HEAD..{branch}`",
            result.commits, result.files_changed, result.insertions, result.deletions
        ));
    }
    printer.note(format!(
        "tokens: {} in, {} out; trace: `atoll trace show {run_id}`",
        ended.usage.input_tokens, ended.usage.output_tokens
    ));
    if ended.outcome.name == v1::OutcomeName::Completed {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::RunFailed, format!("the run ended without success: {}", ended.outcome.message))
        .hint_of(ended.outcome.hint.clone()))
}
