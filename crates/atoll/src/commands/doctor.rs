//! `atoll doctor`: what this machine can do, with evidence and remedies.

use std::path::Path;
use std::process::ExitCode;

use atoll_sandbox::{Finding, LauncherConfig, Tier};

use crate::args::{DoctorArgs, GlobalArgs};
use crate::failure::{Exit, Outcome};
use crate::printer::Printer;
use crate::state::{PLANE_GID, PLANE_UID};

const TIERS: [Tier; 2] = [Tier::Native, Tier::Gvisor];

pub(crate) fn doctor(global: &GlobalArgs, args: &DoctorArgs, printer: &Printer) -> Outcome {
    let findings = findings(&global.state_dir);
    let native_works = is_available(&findings, Tier::Native);
    if printer.is_json() {
        let tiers: serde_json::Map<String, serde_json::Value> =
            TIERS.iter().map(|tier| (tier.to_string(), is_available(&findings, *tier).into())).collect();
        printer.json(&serde_json::json!({"tiers": tiers, "findings": findings}));
    } else {
        long_form(&findings, args.missing, printer);
    }
    Ok(if native_works { ExitCode::SUCCESS } else { ExitCode::from(Exit::Machine as u8) })
}

/// What can be said of this machine, sandboxes being kept in a directory.
pub(crate) fn findings(state_dir: &Path) -> Vec<Finding> {
    atoll_sandbox::probe::probe(&LauncherConfig {
        state_dir: state_dir.to_owned(),
        guest_binary: state_dir.join("bin"),
        plane_uid: PLANE_UID,
        plane_gid: PLANE_GID,
        runsc: crate::serve::configured_runsc(),
        make_ahead: false,
    })
}

/// Whether everything that a tier needs is there.
pub(crate) fn is_available(findings: &[Finding], tier: Tier) -> bool {
    findings.iter().all(|finding| finding.ok || !finding.needed_for.contains(&tier))
}

fn long_form(findings: &[Finding], only_missing: bool, printer: &Printer) {
    for finding in findings.iter().filter(|finding| !only_missing || !finding.ok) {
        let mark = if finding.ok { printer.good("✓") } else { printer.bad("✗") };
        printer.data(format!("{mark} {:<24} {}", finding.name, finding.evidence));
        if let Some(remedy) = &finding.remedy {
            printer.data(format!("  {:<24} {}", "", printer.dim(&format!("→ {remedy}"))));
        }
    }
    printer.data("");
    short_form(findings, printer);
}

/// One line for each tier.
pub(crate) fn short_form(findings: &[Finding], printer: &Printer) {
    for tier in TIERS {
        let missing: Vec<&str> = findings
            .iter()
            .filter(|finding| !finding.ok && finding.needed_for.contains(&tier))
            .map(|finding| finding.name.as_str())
            .collect();
        if missing.is_empty() {
            printer.data(format!("{} tier {tier}: available", printer.good("✓")));
        } else {
            printer.data(format!("{} tier {tier}: not available here: {}", printer.bad("✗"), missing.join(", ")));
        }
    }
}
