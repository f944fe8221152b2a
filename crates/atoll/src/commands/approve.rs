//! `atoll approve`: list what waits for a person, and answer it, one by one or many at once.

use std::process::ExitCode;

use atoll_api::v1;

use crate::args::{ApproveArgs, GlobalArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

pub(crate) async fn approve(global: &GlobalArgs, args: &ApproveArgs, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    let mut pending: v1::ApprovalList = plane.get("/v1/approvals?state=pending").await?;
    pending.approvals.retain(|approval| fits(approval, args));
    let asked = match (&args.request, args.all) {
        (None, false) => return list(&pending, printer),
        (None, true) => pending.approvals,
        (Some(prefix), _) => vec![one_of(&pending.approvals, prefix)?.clone()],
    };
    let decision = if args.deny { v1::ApprovalDecision::Deny } else { v1::ApprovalDecision::Grant };
    let seen = |approval: &v1::Approval| v1::ApprovalRef {
        id: approval.id.clone(),
        input_digest: approval.input_digest.clone(),
    };
    let body = v1::DecideApprovals {
        approvals: asked.iter().map(seen).collect(),
        decision,
        reason: args.reason.clone(),
        remember: args.remember,
    };
    let answered: v1::ApprovalList = plane.post("/v1/approvals", &body).await?;
    tell(&answered, args, printer);
    let missed = asked.len() - answered.approvals.len();
    if missed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::Failure, format!("{missed} of {} requests were not open any more", asked.len()))
        .hint("their runs have gone on or ended without the answer; `atoll approve` lists the open ones"))
}

fn fits(approval: &v1::Approval, args: &ApproveArgs) -> bool {
    args.run.as_ref().is_none_or(|run| approval.run_id.starts_with(run))
        && args.effect.as_ref().is_none_or(|effect| approval.effects.contains(effect))
}

fn tell(answered: &v1::ApprovalList, args: &ApproveArgs, printer: &Printer) {
    if printer.is_json() {
        return printer.json(answered);
    }
    let word = if args.deny { "denied" } else { "granted" };
    let scope = if args.remember { ", for the rest of its run" } else { "" };
    for approval in &answered.approvals {
        printer.data(format!("{word} {} ({}){scope}", approval.id, approval.summary));
    }
    if answered.approvals.is_empty() {
        printer.note("nothing was answered");
    }
}

/// Requests for the very same thing stand together, in one line with their number.
fn list(pending: &v1::ApprovalList, printer: &Printer) -> Outcome {
    if printer.is_json() {
        printer.json(pending);
        return Ok(ExitCode::SUCCESS);
    }
    if pending.approvals.is_empty() {
        printer.note("nothing waits for approval");
        return Ok(ExitCode::SUCCESS);
    }
    let groups = grouped(&pending.approvals);
    let row = |(first, count): &(&v1::Approval, usize)| {
        let times = if *count > 1 { format!(" (and {} more like it)", count - 1) } else { String::new() };
        vec![
            first.id.clone(),
            first.run_id.clone(),
            first.agent.name.clone(),
            first.effects.join(","),
            format!("{}{times}", first.summary),
        ]
    };
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    printer.table(&["REQUEST", "RUN", "AGENT", "EFFECT", "WHAT"], &rows);
    if pending.approvals.len() > 1 {
        printer
            .note("several at once: `atoll approve --all`, narrowed by --run and --effect; --remember asks less often");
    }
    Ok(ExitCode::SUCCESS)
}

/// The first of each kind, and how many of it there are.
fn grouped(approvals: &[v1::Approval]) -> Vec<(&v1::Approval, usize)> {
    let mut groups: Vec<(&v1::Approval, usize)> = Vec::new();
    for approval in approvals {
        let same = |known: &v1::Approval| {
            (&known.agent.name, &known.tool, &known.input_digest)
                == (&approval.agent.name, &approval.tool, &approval.input_digest)
        };
        match groups.iter_mut().find(|(known, _)| same(known)) {
            Some((_, count)) => *count += 1,
            None => groups.push((approval, 1)),
        }
    }
    groups
}

fn one_of<'a>(approvals: &'a [v1::Approval], prefix: &str) -> Result<&'a v1::Approval, Failure> {
    let mut matching = approvals.iter().filter(|approval| approval.id.starts_with(prefix));
    match (matching.next(), matching.next()) {
        (Some(approval), None) => Ok(approval),
        (Some(_), Some(_)) => Err(Failure::new(Exit::Usage, format!("{prefix:?} begins more than one request"))
            .hint("write more of the id; `atoll approve` lists them")),
        (None, _) => Err(Failure::new(Exit::NotFound, format!("no open request begins with {prefix:?}"))
            .hint("`atoll approve` lists the open ones")),
    }
}
