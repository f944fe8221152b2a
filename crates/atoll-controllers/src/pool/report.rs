//! How a pool is doing, in conditions.

use atoll_api::conditions::{FALSE, TRUE};
use atoll_api::reasons::report;
use atoll_api::{pool::UpdateStrategyType, reasons};

use crate::blueprint::{Hashes, is_stale};
use crate::caches::{name_of, template_of_pool};
use crate::pool::observe::View;
use crate::report::Statement;

/// The pool's conditions.
pub(super) fn statements(view: &View) -> Vec<Statement> {
    let status = view.status();
    let wanted = view.pool.spec.replicas;
    let text = format!("{} of {wanted} members are Ready", status.ready_replicas);
    let (progressing, reason, why) = progress(view);
    let ready = status.ready_replicas >= wanted;
    vec![
        (
            reasons::condition::READY,
            if ready { TRUE } else { FALSE },
            if ready { report::COMPLETE } else { reason },
            text,
        ),
        (report::PROGRESSING, if progressing { TRUE } else { FALSE }, reason, why),
    ]
}

/// Whether the pool is on its way to what is wanted of it, and what it is doing or waiting for.
fn progress(view: &View) -> (bool, &'static str, String) {
    let wanted = view.desired();
    let Some(template) = view.template.as_deref() else {
        let name = template_of_pool(&view.pool).name;
        return (false, report::TEMPLATE_NOT_FOUND, format!("SandboxTemplate {name:?} not found"));
    };
    if let Some(rival) = &view.template_rival {
        let text = format!("the template's name has the same hash as that of SandboxTemplate {:?}", name_of(&**rival));
        return (false, report::NAME_HASH_COLLISION, text);
    }
    let unschedulable = view.active().filter(|member| member.unschedulable).count();
    if unschedulable > 0 {
        return (false, report::UNSCHEDULABLE, format!("no node has room for {unschedulable} members"));
    }
    let active = view.active().count();
    let hashes = Hashes::of(template);
    let stale = view.active().filter(|member| is_stale(&member.sandbox, template, &hashes)).count();
    let recreates = view.pool.spec.strategy() == UpdateStrategyType::Recreate;
    if stale > 0 && recreates {
        return (true, report::ROLLING_OUT, format!("{stale} members are out of date and are being replaced"));
    }
    let outdated = if stale > 0 { format!("; {stale} are out of date and will be handed out") } else { String::new() };
    let not_ready = view.active().filter(|member| !member.ready).count();
    match active.cmp(&wanted) {
        std::cmp::Ordering::Greater => (true, report::SHRINKING, format!("{active} members, {wanted} wanted")),
        std::cmp::Ordering::Less => (true, report::FILLING, format!("{} members are missing", wanted - active)),
        std::cmp::Ordering::Equal if not_ready > 0 => {
            (true, report::FILLING, format!("{not_ready} members are starting{outdated}"))
        }
        std::cmp::Ordering::Equal => (false, report::COMPLETE, format!("{wanted} members{outdated}")),
    }
}
