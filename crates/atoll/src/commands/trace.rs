//! `atoll trace`: what each agent did, as a tree with time and tokens.

use std::process::ExitCode;

use atoll_api::v1;

use super::runs::resolve_run;
use crate::args::{GlobalArgs, TraceCommand};
use crate::failure::Outcome;
use crate::plane::Plane;
use crate::printer::Printer;

pub(crate) async fn trace(global: &GlobalArgs, command: TraceCommand, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    match command {
        TraceCommand::Ls => list(&plane, printer).await,
        TraceCommand::Show { run } => {
            let run = resolve_run(&plane, &run).await?;
            show(&plane, &run, printer).await
        }
    }
}

async fn list(plane: &Plane, printer: &Printer) -> Outcome {
    let list: v1::TraceList = plane.get("/v1/traces").await?;
    if printer.is_json() {
        printer.json(&list);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = list
        .traces
        .iter()
        .map(|trace| {
            vec![
                trace.run_id.clone().unwrap_or_default(),
                trace.name.clone(),
                duration(trace.duration_ms),
                trace.spans.to_string(),
                trace.errors.to_string(),
                trace.usage.input_tokens.to_string(),
                trace.usage.output_tokens.to_string(),
            ]
        })
        .collect();
    printer.table(&["RUN", "TRACE", "TIME", "SPANS", "ERRORS", "TOKENS IN", "TOKENS OUT"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// Prints the trace of one run as a tree.
pub(crate) async fn show(plane: &Plane, run: &str, printer: &Printer) -> Outcome {
    let detail: v1::TraceDetail = plane.get(&format!("/v1/traces/{run}")).await?;
    if printer.is_json() {
        printer.json(&detail);
        return Ok(ExitCode::SUCCESS);
    }
    for (index, root) in detail.roots.iter().enumerate() {
        draw(root, "", index + 1 == detail.roots.len(), true, printer);
    }
    let agents: Vec<String> = detail
        .usage_by_agent
        .iter()
        .map(|(agent, usage)| format!("{agent} {}+{}", usage.input_tokens, usage.output_tokens))
        .collect();
    printer.data(format!(
        "tokens: {} in, {} out ({})",
        detail.total_usage.input_tokens,
        detail.total_usage.output_tokens,
        agents.join(", ")
    ));
    Ok(ExitCode::SUCCESS)
}

fn draw(node: &v1::SpanNode, indent: &str, last: bool, root: bool, printer: &Printer) {
    let branch = match (root, last) {
        (true, _) => "",
        (false, true) => "└─ ",
        (false, false) => "├─ ",
    };
    let tokens = if node.usage.input_tokens + node.usage.output_tokens > 0 {
        format!("  {}+{} tokens", node.usage.input_tokens, node.usage.output_tokens)
    } else {
        String::new()
    };
    let error = node.error.as_ref().map(|error| printer.bad(&format!("  ✗ {error}"))).unwrap_or_default();
    let cost = printer.dim(&format!("  {}{tokens}", duration(node.duration_ms)));
    printer.data(format!("{indent}{branch}{}{cost}{error}", node.name));

    let deeper = match (root, last) {
        (true, _) => indent.to_owned(),
        (false, true) => format!("{indent}   "),
        (false, false) => format!("{indent}│  "),
    };
    let below: Vec<&v1::SpanNode> = node.children.iter().chain(&node.linked).collect();
    for (index, child) in below.iter().enumerate() {
        draw(child, &deeper, index + 1 == below.len(), false, printer);
    }
}

/// Milliseconds as people read them.
pub(crate) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}
