//! What is to be done for one pool: a pure function of what is seen.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

use atoll_api::pool::{SandboxWarmPoolStatus, UpdateStrategyType};
use atoll_api::sandbox::SandboxSpec;
use atoll_api::{Sandbox, SandboxTemplate, annotations, labels, reasons};
use atoll_stdx::name_hash;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::blueprint::{Hashes, is_stale, secured};
use crate::caches::{name_of, namespace_of};
use crate::config::ControllersConfig;
use crate::notices::{Gravity, Notice};
use crate::owner::{controller_reference, is_terminating, label, uid_of};
use crate::pool::observe::{Member, View};
use crate::write::Write;

/// What follows from a look at a pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// Members that go, unless a claim has taken them meanwhile.
    pub(crate) deletes: Vec<Write>,
    /// So many members are made, each like the one given but with a name of its own.
    pub(crate) creates: Option<(usize, Box<Sandbox>)>,
    /// The status to write.
    pub(crate) status: Option<SandboxWarmPoolStatus>,
    /// The conditions to write, for those who ask for them.
    pub(crate) report: Option<Write>,
    /// When to look again, if nothing happens before.
    pub(crate) again: Option<Duration>,
    /// What to tell people.
    pub(crate) notice: Option<Notice>,
}

/// The part of the settings that plans depend on.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) batch_max: usize,
    pub(crate) readiness_grace: Duration,
    pub(crate) unschedulable_recheck: Duration,
    pub(crate) status_interval: Duration,
    pub(crate) refill_hold_max: Duration,
    pub(crate) stranger_grace: Duration,
}

impl From<&ControllersConfig> for Settings {
    fn from(config: &ControllersConfig) -> Self {
        Self {
            batch_max: config.pool_batch_max,
            readiness_grace: config.readiness_grace,
            unschedulable_recheck: config.unschedulable_recheck,
            status_interval: config.pool_status_interval,
            refill_hold_max: config.refill_hold_max,
            stranger_grace: config.stranger_grace,
        }
    }
}

/// What is to be done. Members are made in a plan that deletes none, so that what was deleted is seen to be gone.
pub(crate) fn plan(view: &View, settings: &Settings) -> Plan {
    if is_terminating(&view.pool.metadata) {
        return Plan::default();
    }
    let mut plan = Plan::default();
    let mut leaving: HashSet<&str> = stale(view).into_iter().map(uid).collect();
    let (stuck, held) = stuck(view, settings, &mut plan);
    leaving.extend(stuck.into_iter().map(uid));
    plan_notice(view, held, &mut plan);
    let remaining = view.active().filter(|member| !leaving.contains(uid(member))).count();
    let surplus = surplus(view, &leaving, remaining.saturating_sub(view.desired()));
    leaving.extend(surplus.into_iter().map(uid));
    let mut again = None;
    plan.deletes = view
        .active()
        .filter(|member| leaving.contains(uid(member)))
        .take(settings.batch_max)
        .map(|member| Write::delete_unchanged(&*member.sandbox))
        .chain(plan_strangers(view, settings, &mut again))
        .collect();
    plan.again = plan.again.into_iter().chain(again).min();
    if plan.deletes.is_empty() {
        plan_creates(view, settings, &mut plan);
    }
    plan_status(view, settings, &mut plan);
    plan
}

/// What the pool did not make it never hands out; it would take up room for ever. Not at once: what was asked for by
/// controllers before these may still come, and people may see what they did wrong.
fn plan_strangers(view: &View, settings: &Settings, again: &mut Option<Duration>) -> Vec<Write> {
    let mut deletes = Vec::new();
    for (sandbox, known_for) in &view.strangers {
        match settings.stranger_grace.saturating_sub(*known_for) {
            Duration::ZERO => deletes.push(Write::delete_unchanged(&**sandbox)),
            left => *again = (*again).into_iter().chain([left]).min(),
        }
    }
    deletes.truncate(settings.batch_max);
    deletes
}

/// Under `Recreate`, the members that are not what the template says.
fn stale(view: &View) -> Vec<&Member> {
    let Some(template) = view.template.as_deref() else { return Vec::new() };
    if view.pool.spec.strategy() != UpdateStrategyType::Recreate {
        return Vec::new();
    }
    let hashes = Hashes::of(template);
    view.active().filter(|member| is_stale(&member.sandbox, template, &hashes)).collect()
}

/// Members that have not become Ready in time, and how many of them wait for room and stay.
fn stuck<'a>(view: &'a View, settings: &Settings, plan: &mut Plan) -> (Vec<&'a Member>, usize) {
    let mut stuck = Vec::new();
    let mut held = 0;
    for member in view.active().filter(|member| !member.ready) {
        match settings.readiness_grace.checked_sub(member.age) {
            Some(left) if !left.is_zero() => look_again(plan, left),
            _ if member.unschedulable => {
                held += 1;
                look_again(plan, settings.unschedulable_recheck);
            }
            _ => stuck.push(member),
        }
    }
    (stuck, held)
}

fn uid(member: &Member) -> &str {
    uid_of(&member.sandbox.metadata)
}

fn plan_notice(view: &View, held: usize, plan: &mut Plan) {
    plan.notice = match (held, view.recollection.not_progressing) {
        (0, true) => Some(Notice {
            gravity: Gravity::Normal,
            reason: reasons::event::WARM_POOL_PROGRESSING,
            action: "Reconciling",
            note: "Warm pool is progressing again".to_owned(),
        }),
        (held, false) if held > 0 => Some(Notice {
            gravity: Gravity::Warning,
            reason: reasons::event::WARM_POOL_NOT_PROGRESSING,
            action: "Reconciling",
            note: format!(
                "{held} warm pool member(s) can not be scheduled; waiting for room instead of replacing them"
            ),
        }),
        _ => None,
    };
}

/// The members to do without: those that are not Ready first, the newest first.
fn surplus<'a>(view: &'a View, leaving: &HashSet<&str>, count: usize) -> Vec<&'a Member> {
    let mut members: Vec<&Member> = view.active().filter(|member| !leaving.contains(uid(member))).collect();
    members.sort_by_key(|member| {
        let created = member.sandbox.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (member.ready, Reverse(created), name_of(&*member.sandbox).to_owned())
    });
    members.truncate(count);
    members
}

/// Members are made when claims have been served, or have waited long enough.
fn plan_creates(view: &View, settings: &Settings, plan: &mut Plan) {
    let Some(template) = view.template.as_deref().filter(|_| view.template_rival.is_none()) else { return };
    let deficit = view.desired().saturating_sub(view.members.len()).min(settings.batch_max);
    if deficit == 0 {
        return;
    }
    if view.waiting_claims > 0 && view.recollection.filled {
        let left = settings.refill_hold_max.saturating_sub(view.recollection.short_for);
        if !left.is_zero() {
            look_again(plan, left);
            return;
        }
    }
    plan.creates = Some((deficit, Box::new(new_member(view, template))));
}

/// The status is written when the pool is complete, or when it has been incomplete for a while, and never more often
/// than the interval says.
fn plan_status(view: &View, settings: &Settings, plan: &mut Plan) {
    if !view.status_differs() {
        return;
    }
    let status = view.status();
    let desired = view.pool.spec.replicas;
    let complete = status.ready_replicas == desired && status.replicas == desired;
    let unpublished = if complete { Duration::ZERO } else { settings.status_interval };
    let wait = unpublished.saturating_sub(view.recollection.differs_for).max(
        view.recollection.status_written_ago.map_or(Duration::ZERO, |ago| settings.status_interval.saturating_sub(ago)),
    );
    if wait.is_zero() {
        plan.status = Some(status).filter(|status| view.pool.status.as_ref() != Some(status));
        plan.report = view.report();
    } else {
        look_again(plan, wait);
    }
}

fn look_again(plan: &mut Plan, after: Duration) {
    plan.again = plan.again.into_iter().chain([after]).min();
}

/// A member, but for the end of its name.
///
/// What is the controllers' own business is on the Sandbox alone and not in its pod template: so a claim takes a
/// member without changing its spec, and nobody has to say again that it is Ready.
fn new_member(view: &View, template: &SandboxTemplate) -> Sandbox {
    let pool = &*view.pool;
    let hashes = Hashes::of(template);
    let mut blueprint = secured(template);
    blueprint.pod_template.metadata.labels.insert(labels::TEMPLATE_REF_HASH.to_owned(), hashes.reference.clone());
    let member_labels = [
        (labels::WARM_POOL, name_hash(name_of(pool))),
        (labels::TEMPLATE_REF_HASH, hashes.reference),
        (labels::TEMPLATE_HASH, hashes.blueprint),
        (labels::POD_TEMPLATE_HASH, hashes.pod_template),
        (labels::LAUNCH_TYPE, labels::LAUNCH_TYPE_WARM.to_owned()),
        (labels::CREATED_BY, labels::CREATED_BY_CONTROLLER.to_owned()),
    ];
    Sandbox {
        metadata: ObjectMeta {
            namespace: Some(namespace_of(pool).to_owned()),
            generate_name: Some(format!("{}-", name_of(pool))),
            labels: Some(member_labels.map(|(key, value)| (key.to_owned(), value)).into()),
            annotations: Some([(annotations::TEMPLATE_REF.to_owned(), name_of(template).to_owned())].into()),
            owner_references: Some(vec![controller_reference(pool)]),
            ..ObjectMeta::default()
        },
        spec: SandboxSpec::from(blueprint),
        status: None,
    }
}

/// Whether a Sandbox carries the labels of an unclaimed member.
pub(crate) fn has_member_labels(sandbox: &Sandbox) -> bool {
    label(&sandbox.metadata, labels::WARM_POOL).is_some()
        && label(&sandbox.metadata, labels::TEMPLATE_REF_HASH).is_some()
}

#[cfg(test)]
mod tests;
