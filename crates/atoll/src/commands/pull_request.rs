//! A pull request out of a run's work: shown, asked about, waited for.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use atoll_api::v1;

use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

/// Between two looks at whether somebody has answered.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Wants the pull request, shows what would be sent, and sees to its end. On a terminal the question is put right here;
/// elsewhere it waits for `atoll approve`.
pub(crate) async fn open(plane: &Plane, run: &str, base: Option<String>, printer: &Printer) -> Outcome {
    let path = format!("/v1/runs/{run}/pull-request");
    let mut pull: v1::PullRequest = plane.post(&path, &v1::OpenPullRequest { base }).await?;
    if pull.approval.state == v1::ApprovalState::Pending {
        show(&pull.approval, printer);
        if std::io::stdin().is_terminal() {
            let answer = v1::DecideApproval {
                decision: if ask(printer).await { v1::ApprovalDecision::Grant } else { v1::ApprovalDecision::Deny },
                reason: None,
                input_digest: Some(pull.approval.input_digest.clone()),
                remember: false,
            };
            let _: v1::Approval = plane.post(&format!("/v1/approvals/{}", pull.approval.id), &answer).await?;
        } else {
            printer.note(format!("waits for a person: `atoll approve {}`", pull.approval.id));
        }
        pull = plane.get(&path).await?;
    }
    while is_under_way(&pull) {
        tokio::time::sleep(LOOK_EVERY).await;
        pull = plane.get(&path).await?;
    }
    conclude(run, &pull, printer)
}

fn is_under_way(pull: &v1::PullRequest) -> bool {
    match pull.approval.state {
        v1::ApprovalState::Pending => true,
        v1::ApprovalState::Granted => pull.url.is_none() && pull.error.is_none(),
        _ => false,
    }
}

fn show(approval: &v1::Approval, printer: &Printer) {
    let field = |name: &str| approval.input[name].as_str().unwrap_or_default();
    printer.note(format!("pull request at {}/{}", field("forge"), field("project")));
    printer.note(format!("  {} -> {} ({})", field("branch"), field("base"), field("commit")));
    printer.note(format!("  {}", field("title")));
    for line in field("body").lines() {
        let plain: String = line.chars().filter(|letter| !letter.is_control()).collect();
        printer.note(format!("  | {plain}"));
    }
}

async fn ask(printer: &Printer) -> bool {
    printer.note("[y] push the branch and open it   [Enter] do not");
    let answer = atoll_rt::TaskGroup::new("pull-request").spawn_blocking("question", || {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line).unwrap_or_default()
    });
    answer.await.unwrap_or_default().trim().eq_ignore_ascii_case("y")
}

fn conclude(run: &str, pull: &v1::PullRequest, printer: &Printer) -> Outcome {
    if let Some(url) = &pull.url {
        if printer.is_json() {
            printer.json(pull);
        } else {
            printer.data(url);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(error) = &pull.error {
        let failure = Failure::new(Exit::Failure, format!("no pull request was opened: {error}"));
        return Err(failure.hint(format!("when it is mended: `atoll runs pr {run}`")));
    }
    Err(Failure::new(Exit::Failure, "no pull request was opened: a person did not approve it")
        .hint(format!("the branch is there all the same: `atoll runs fetch {run}`")))
}
