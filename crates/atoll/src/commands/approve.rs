//! `atoll approve`: list what waits for a person, and answer it.

use std::process::ExitCode;

use atoll_api::v1;

use crate::args::{ApproveArgs, GlobalArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;

pub(crate) async fn approve(global: &GlobalArgs, args: &ApproveArgs, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    let pending: v1::ApprovalList = plane.get("/v1/approvals?state=pending").await?;
    let Some(prefix) = &args.request else {
        return list(&pending, printer);
    };
    let approval = one_of(&pending.approvals, prefix)?;
    let decision = if args.deny { v1::ApprovalDecision::Deny } else { v1::ApprovalDecision::Grant };
    let body =
        v1::DecideApproval { decision, reason: args.reason.clone(), input_digest: Some(approval.input_digest.clone()) };
    let answered: v1::Approval = plane.post(&format!("/v1/approvals/{}", approval.id), &body).await?;
    if printer.is_json() {
        printer.json(&answered);
    } else {
        let word = if args.deny { "denied" } else { "granted" };
        printer.data(format!("{word} {} ({})", answered.id, answered.summary));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(pending: &v1::ApprovalList, printer: &Printer) -> Outcome {
    if printer.is_json() {
        printer.json(pending);
    } else if pending.approvals.is_empty() {
        printer.note("nothing waits for approval");
    } else {
        let rows: Vec<Vec<String>> = pending
            .approvals
            .iter()
            .map(|approval| {
                vec![
                    approval.id.clone(),
                    approval.run_id.clone(),
                    approval.agent.name.clone(),
                    approval.effects.join(","),
                    approval.summary.clone(),
                ]
            })
            .collect();
        printer.table(&["REQUEST", "RUN", "AGENT", "EFFECT", "WHAT"], &rows);
    }
    Ok(ExitCode::SUCCESS)
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
