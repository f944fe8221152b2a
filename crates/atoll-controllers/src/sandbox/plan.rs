//! What is to be done for one Sandbox: a pure function of what is seen.

use std::time::Duration;

use atoll_api::reasons::{self, condition};
use atoll_api::sandbox::{SandboxStatus, ShutdownPolicy};
use atoll_api::{Sandbox, conditions};

use crate::caches::name_of;
use crate::config::ControllersConfig;
use crate::notices::{Gravity, Notice};
use crate::owner::{is_controlled_by, is_terminating};
use crate::sandbox::children::Problem;
use crate::sandbox::observe::View;
use crate::sandbox::status::{self, Facts};
use crate::sandbox::{pod, service, volumes};
use crate::write::{Write, WriteError};

/// Writes, and what follows when they are done.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// In this order. After them it is planned again; the status is that of a plan without any.
    pub(crate) writes: Vec<Write>,
    /// The status to write; nothing when it is as it should be, or can wait.
    pub(crate) status: Option<SandboxStatus>,
    /// When to look again, if nothing happens before.
    pub(crate) again: Option<Duration>,
    /// What to tell people.
    pub(crate) notices: Vec<Notice>,
}

/// The part of the settings that plans depend on.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cluster_domain: String,
    pub(crate) evictable: bool,
    pub(crate) first_status_window: Duration,
}

impl From<&ControllersConfig> for Settings {
    fn from(config: &ControllersConfig) -> Self {
        Self {
            cluster_domain: config.cluster_domain.clone(),
            evictable: config.warm_pool_eviction,
            first_status_window: config.first_status_window,
        }
    }
}

/// What is to be done.
pub(crate) fn plan(view: &View, settings: &Settings) -> Plan {
    let sandbox = &*view.sandbox;
    if is_terminating(&sandbox.metadata) {
        return Plan::default();
    }
    if is_over(view) {
        return plan_expired(view);
    }
    let mut plan = plan_running(view, settings, None);
    let shutdown = sandbox.spec.shutdown_time.as_ref().map(|time| time.0);
    let remaining = shutdown.and_then(|time| Duration::try_from(time.duration_since(view.now)).ok());
    plan.again = plan.again.into_iter().chain(remaining).min();
    plan
}

/// What is to be done when one of the plan's writes has failed: say so.
pub(crate) fn plan_failure(view: &View, settings: &Settings, write: &Write, error: &WriteError) -> Plan {
    if is_terminating(&view.sandbox.metadata) || is_over(view) {
        return Plan::default();
    }
    let problem = match error {
        WriteError::Invalid(text) => Problem::Invalid(format!("failed to {}: {text}", write.describe())),
        other => Problem::Failed(format!("failed to {}: {other}", write.describe())),
    };
    let mut plan = Plan { writes: Vec::new(), ..plan_running(view, settings, Some(problem)) };
    if plan.status.is_some() && matches!(write, Write::Create(_)) {
        plan.notices.push(Notice::refused(format!("failed to {}: {error}", write.describe())));
    }
    plan
}

fn is_over(view: &View) -> bool {
    view.sandbox.spec.shutdown_time.as_ref().is_some_and(|time| time.0 <= view.now)
}

/// First it is told that the time is over, then the children go.
fn plan_expired(view: &View) -> Plan {
    let sandbox = &*view.sandbox;
    if !status::is_expired(sandbox) {
        return Plan { status: Some(status::expiring(sandbox, view.now)), ..Plan::default() };
    }
    let pod = view.owned_pods.iter().filter(|pod| !is_terminating(&pod.metadata)).map(|pod| Write::delete(&**pod));
    let service = view
        .service
        .iter()
        .filter(|service| is_controlled_by(&service.metadata, sandbox) && !is_terminating(&service.metadata))
        .map(|service| Write::delete(&**service));
    let mut writes: Vec<Write> = pod.chain(service).collect();
    if sandbox.spec.shutdown_policy == Some(ShutdownPolicy::Delete) {
        writes.push(Write::delete(sandbox));
        return Plan { writes, ..Plan::default() };
    }
    let status = changed(sandbox, status::expired(sandbox, view.now));
    Plan { writes, status, ..Plan::default() }
}

fn plan_running(view: &View, settings: &Settings, failure: Option<Problem>) -> Plan {
    let sandbox = &*view.sandbox;
    let (mut writes, volume_problem) = volumes::plan(sandbox, &view.volume_claims);
    let pod = pod::plan(view, settings.evictable);
    let service = service::plan(sandbox, view.service.as_deref());
    writes.extend(pod.write);
    writes.extend(service.write);
    // What was there before this rule is left alone.
    let collision = view.rival.as_deref().filter(|_| view.owned_pods.is_empty());
    let collision = collision.map(|rival| Problem::Collision(name_of(rival).to_owned()));
    if collision.is_some() {
        writes.clear();
    }
    let pod_unclear = pod.problem.is_some();
    let problem = failure.or(collision).or(volume_problem).or(pod.problem).or(service.problem);
    let facts = Facts {
        sandbox,
        pod: pod.pod.as_deref(),
        pod_unclear,
        service_exists: service.exists,
        problem: problem.as_ref(),
        cluster_domain: &settings.cluster_domain,
        now: view.now,
    };
    let mut plan = Plan { writes, notices: notices(sandbox, problem.as_ref()), ..Plan::default() };
    if let Some(status) = changed(sandbox, facts.status()) {
        match settings.first_status_window.checked_sub(view.age) {
            Some(window) if !window.is_zero() && is_passing_first_status(sandbox, &status, problem.as_ref()) => {
                plan.again = Some(window);
            }
            _ => plan.status = Some(status),
        }
    }
    plan
}

/// The status, unless it is what the Sandbox has, or differs in nothing but the node while it is on its way.
fn changed(sandbox: &Sandbox, status: SandboxStatus) -> Option<SandboxStatus> {
    let Some(old) = &sandbox.status else { return Some(status) };
    if *old == status {
        return None;
    }
    let node_alone = *old == SandboxStatus { node_name: old.node_name.clone(), ..status.clone() };
    (!node_alone || conditions::is_true(&status.conditions, condition::READY)).then_some(status)
}

/// A Sandbox that was never told anything, and whose Pod is starting or has yet to make room: in a moment there will
/// be more to say.
fn is_passing_first_status(sandbox: &Sandbox, status: &SandboxStatus, problem: Option<&Problem>) -> bool {
    let told =
        sandbox.status.as_ref().is_some_and(|status| conditions::find(&status.conditions, condition::READY).is_some());
    let starting = conditions::reason(&status.conditions, condition::READY) == reasons::DEPENDENCIES_NOT_READY;
    !told && (starting || matches!(problem, Some(Problem::NotOurs(_))))
}

fn notices(sandbox: &Sandbox, problem: Option<&Problem>) -> Vec<Notice> {
    let known = sandbox
        .status
        .as_ref()
        .is_some_and(|status| conditions::reason(&status.conditions, condition::READY) == reasons::MULTIPLE_PODS);
    match problem {
        Some(problem @ Problem::MultiplePods(_)) if !known => vec![Notice {
            gravity: Gravity::Warning,
            reason: reasons::MULTIPLE_PODS,
            action: "Reconciling",
            note: problem.to_string(),
        }],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
