//! What only a plane can tell of policies: which one is in force, and what another would have said of past runs.

use std::process::ExitCode;

use atoll_api::v1;

use crate::args::GlobalArgs;
use crate::commands::runs::resolve_run;
use crate::failure::Outcome;
use crate::plane::Plane;
use crate::printer::Printer;

pub(super) async fn show(global: &GlobalArgs, printer: &Printer) -> Outcome {
    let status: v1::PolicyStatus = Plane::find(global)?.get("/v1/policy").await?;
    if printer.is_json() {
        printer.json(&status);
        return Ok(ExitCode::SUCCESS);
    }
    printer.data(format!("in force  {} with agents {}", status.hash, status.agents.join(", ")));
    if let Some(why) = &status.rejected {
        printer.data(format!("not taken {why}"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn simulate(global: &GlobalArgs, policy: String, runs: &[String], printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    let mut named = Vec::new();
    for run in runs {
        named.push(resolve_run(&plane, run).await?);
    }
    let body = v1::SimulatePolicy { policy, runs: named };
    let simulation: v1::PolicySimulation = plane.post("/v1/policy/simulate", &body).await?;
    if printer.is_json() {
        printer.json(&simulation);
        return Ok(ExitCode::SUCCESS);
    }
    for change in &simulation.changes {
        printer.data(format!("{} {} [{}] {}", change.run_id, change.call_id, change.agent, change.summary));
        printer.data(format!("    then {}, now {}: {}", word(&change.then), word(&change.now), change.now.reason));
    }
    printer.data(format!(
        "{} of {} decisions of {} runs come out differently",
        simulation.changes.len(),
        simulation.decisions,
        simulation.runs
    ));
    Ok(ExitCode::SUCCESS)
}

fn word(side: &v1::PolicySide) -> String {
    let verdict = match side.verdict {
        v1::Verdict::Allow => "allow",
        v1::Verdict::Deny => "deny",
        v1::Verdict::RequireApproval => "require_approval",
    };
    format!("{verdict} ({})", side.rule_ids.join(", "))
}
