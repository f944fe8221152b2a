//! What is to be done for one claim: a pure function of what is seen.

use std::sync::Arc;
use std::time::Duration;

use atoll_api::claim::{ClaimShutdownPolicy, SandboxClaimStatus};
use atoll_api::reasons::{self, condition, message};
use atoll_api::{Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool, annotations, conditions};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::caches::{name_of, template_of_pool};
use crate::claim::observe::View;
use crate::claim::refusal::Refusal;
use crate::claim::waiting::{Patience, patience};
use crate::claim::{expiry, metadata, sandbox, shadow, status};
use crate::config::ControllersConfig;
use crate::notices::{Gravity, Notice};
use crate::owner::{annotation, controller_of, is_controlled_by, is_terminating, names_kind, uid_of};
use crate::write::{NewObject, Propagation, Target, Write, WriteError};

/// How long an object of the claim's name that is on its way out may take.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(10);
/// How often a claim looks again for a pool or template that does not exist.
const MISSING_RECHECK: Duration = Duration::from_secs(60);

/// What follows from a look at a claim.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// In this order. After them it is planned again; the status is that of a plan without any.
    pub(crate) writes: Vec<Write>,
    /// The UID of the member that one of the writes takes: not to be given to another claim meanwhile.
    pub(crate) takes: Option<String>,
    /// The status to write.
    pub(crate) status: Option<SandboxClaimStatus>,
    /// What to tell people when all is written.
    pub(crate) notices: Vec<Notice>,
    /// When to look again, if nothing happens before.
    pub(crate) again: Option<Duration>,
    /// Whether to look again when a member of the pool becomes Ready.
    pub(crate) parks: bool,
    /// Whether to ask the API server itself for pool and template before believing that they are missing.
    pub(crate) asks: bool,
}

/// The part of the settings that plans depend on.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) allowed_label_domains: Vec<String>,
    pub(crate) pending_members_wait: Duration,
    pub(crate) missing_wait: Duration,
    pub(crate) first_status_window: Duration,
    pub(crate) observability_annotations: bool,
}

impl From<&ControllersConfig> for Settings {
    fn from(config: &ControllersConfig) -> Self {
        Self {
            allowed_label_domains: config.allowed_label_domains.clone(),
            pending_members_wait: config.pending_members_wait,
            missing_wait: config.missing_wait,
            first_status_window: config.first_status_window,
            observability_annotations: config.claim_observability_annotations,
        }
    }
}

/// What is to be done.
pub(crate) fn plan(view: &View, settings: &Settings) -> Plan {
    let claim = &*view.claim;
    if is_terminating(&claim.metadata) {
        return Plan::default();
    }
    let deadline = expiry::deadline(claim, &claim.status.clone().unwrap_or_default());
    if deadline.is_some_and(|deadline| deadline <= view.now) {
        return plan_expired(view);
    }
    let mut plan = plan_active(view, settings);
    if plan.writes.is_empty() && plan.status.is_none() {
        plan.writes.extend(housekeeping(view, settings));
    }
    let remaining = deadline.and_then(|deadline| Duration::try_from(deadline.duration_since(view.now)).ok());
    plan.again = plan.again.into_iter().chain(remaining).min();
    plan
}

/// What is to be done when a write has failed: say so.
pub(crate) fn plan_failure(view: &View, write: &Write, error: &WriteError) -> Plan {
    let text = format!("failed to {}: {error}", write.describe());
    let (reason, text) = match error {
        WriteError::Invalid(_) => (reasons::INVALID_CONFIGURATION, text),
        _ => (reasons::RECONCILER_ERROR, format!("{}{text}", message::ERROR_SEEN)),
    };
    let status = changed(&view.claim, status::refused(&view.claim, reason, &text, view.now));
    let told = status.is_some() && matches!(write, Write::Create(_));
    let notices = told.then(|| Notice::refused(text)).into_iter().collect();
    Plan { status, notices, ..Plan::default() }
}

/// First it is told that the claim has expired, then it, or its Sandbox, goes.
fn plan_expired(view: &View) -> Plan {
    let claim = &*view.claim;
    if status::ready_reason(claim) != reasons::CLAIM_EXPIRED {
        return Plan {
            status: Some(status::refused(claim, reasons::CLAIM_EXPIRED, message::CLAIM_EXPIRED, view.now)),
            notices: vec![expiry_notice("Claim Expired", "Claim expired".to_owned())],
            ..Plan::default()
        };
    }
    let policy = claim.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.shutdown_policy).unwrap_or_default();
    let propagation = match policy {
        ClaimShutdownPolicy::Retain => return plan_retained(view),
        ClaimShutdownPolicy::Delete => Propagation::Background,
        ClaimShutdownPolicy::DeleteForeground => Propagation::Foreground,
    };
    Plan {
        writes: vec![Write::Delete { target: Target::of(claim), resource_version: None, propagation }],
        notices: vec![expiry_notice("Deleting", format!("Deleting Claim (ShutdownPolicy={policy:?})"))],
        ..Plan::default()
    }
}

fn expiry_notice(action: &'static str, note: String) -> Notice {
    Notice { gravity: Gravity::Normal, reason: reasons::CLAIM_EXPIRED, action, note }
}

/// The Sandbox goes, the claim stays.
fn plan_retained(view: &View) -> Plan {
    let claim = &*view.claim;
    let writes: Vec<Write> = view
        .owned
        .iter()
        .filter(|sandbox| !is_terminating(&sandbox.metadata))
        .map(|sandbox| Write::delete(&**sandbox))
        .collect();
    if !writes.is_empty() || !view.owned.is_empty() {
        return Plan { writes, ..Plan::default() };
    }
    let text = match &view.bound {
        Some(sandbox) => format!(
            "Claim expired. sandbox not owned by this claim: sandbox {:?} is not owned by claim {:?}; deletion skipped.",
            name_of(&**sandbox),
            name_of(claim)
        ),
        None => message::CLAIM_EXPIRED.to_owned(),
    };
    let status = status::without_sandbox(claim, reasons::CLAIM_EXPIRED, &text, view.now);
    Plan { status: changed(claim, status), ..Plan::default() }
}

fn plan_active(view: &View, settings: &Settings) -> Plan {
    let claim = &*view.claim;
    if let Some(wanted) = &claim.spec.additional_pod_metadata
        && let Err(refusal) = metadata::validate(wanted, &settings.allowed_label_domains)
    {
        return plan_refusal(view, &refusal);
    }
    match chosen(view) {
        Some(sandbox) => plan_bound(view, settings, sandbox),
        None => plan_unbound(view, settings),
    }
}

/// The claim's Sandbox: the one that its status names, or else the first that it controls.
fn chosen(view: &View) -> Option<&Arc<Sandbox>> {
    let bound = view.bound.as_ref().map(|bound| uid_of(&bound.metadata));
    view.owned.iter().find(|sandbox| Some(uid_of(&sandbox.metadata)) == bound).or_else(|| view.owned.first())
}

fn plan_bound(view: &View, settings: &Settings, sandbox: &Sandbox) -> Plan {
    let claim = &*view.claim;
    let template = view.template.as_deref();
    if let (Some(template), Some(wanted)) = (template, &claim.spec.additional_pod_metadata)
        && let Err(refusal) = metadata::conflicts(&template.spec.pod_template.metadata, wanted)
    {
        return plan_refusal(view, &refusal);
    }
    let surplus = view
        .owned
        .iter()
        .filter(|other| uid_of(&other.metadata) != uid_of(&sandbox.metadata) && !is_terminating(&other.metadata));
    let mut writes: Vec<Write> = surplus.map(|other| Write::delete(&**other)).collect();
    if !is_terminating(&sandbox.metadata) {
        writes.extend(sandbox::synchronisation(claim, sandbox, template));
    }
    let mut plan = Plan { writes, ..Plan::default() };
    if let Some(status) = changed(claim, status::forwarded(claim, sandbox, view.now)) {
        match settings.first_status_window.checked_sub(view.age) {
            Some(window) if !window.is_zero() && is_passing_first_status(claim, &status) => plan.again = Some(window),
            _ => plan.status = Some(status),
        }
    }
    plan
}

/// A claim that was never told anything, and whose Sandbox is starting: in a moment there will be more to say.
fn is_passing_first_status(claim: &SandboxClaim, status: &SandboxClaimStatus) -> bool {
    let passing = [reasons::DEPENDENCIES_NOT_READY, reasons::SANDBOX_NOT_READY];
    status::ready_reason(claim).is_empty()
        && passing.contains(&conditions::reason(&status.conditions, condition::READY))
}

fn plan_unbound(view: &View, settings: &Settings) -> Plan {
    let claim = &*view.claim;
    if let Some(namesake) = &view.namesake {
        return plan_namesake(view, namesake);
    }
    let (pool, template) = match found(view, settings) {
        Ok(found) => found,
        Err(plan) => return plan,
    };
    if let Some(rival) = &view.template_rival {
        let (template, rival) = (name_of(template).to_owned(), name_of(&**rival).to_owned());
        return plan_refusal(view, &Refusal::TemplateCollision { template, rival });
    }
    if let Some(wanted) = &claim.spec.additional_pod_metadata
        && let Err(refusal) = metadata::conflicts(&template.spec.pod_template.metadata, wanted)
    {
        return plan_refusal(view, &refusal);
    }
    let wants_its_own = !claim.spec.env.is_empty() || !claim.spec.volume_claim_templates.is_empty();
    if !wants_its_own && let Some(plan) = plan_warm(view, settings, pool, template) {
        return plan;
    }
    match sandbox::cold(claim, template) {
        Ok(sandbox) => Plan {
            notices: vec![Notice {
                gravity: Gravity::Normal,
                reason: reasons::event::SANDBOX_PROVISIONED,
                action: "Provisioning",
                note: format!("Created Sandbox {:?}", name_of(&sandbox)),
            }],
            writes: vec![Write::Create(NewObject::Sandbox(Box::new(sandbox)))],
            ..Plan::default()
        },
        Err(refusal) => plan_refusal(view, &refusal),
    }
}

/// A member of the pool: a Ready one at once, one that is starting after a while; nothing if there will be none.
fn plan_warm(view: &View, settings: &Settings, pool: &SandboxWarmPool, template: &SandboxTemplate) -> Option<Plan> {
    let candidates = &view.candidates;
    let patience = patience(&view.claim, pool, settings.pending_members_wait);
    let ready = candidates.ready.as_ref().filter(|_| view.ahead < candidates.ready_count);
    let member = match (ready, patience) {
        (Some(member), _) => member,
        (None, Patience::Endless) => return Some(plan_waiting(view, None)),
        (None, Patience::Until(end)) => match end.saturating_sub(view.age) {
            Duration::ZERO => candidates.ready.as_ref().or(candidates.starting.as_ref())?,
            left => return Some(plan_waiting(view, Some(left))),
        },
        (None, Patience::Brief(end)) => {
            let unreconciled = pool.spec.replicas > 0 && pool.status.is_none();
            let expected = candidates.ready.is_some() || candidates.pending > 0 || unreconciled;
            match end.saturating_sub(view.age) {
                left if expected && !left.is_zero() => {
                    return Some(Plan { parks: true, again: Some(left), ..Plan::default() });
                }
                _ => candidates.ready.as_ref().or(candidates.starting.as_ref())?,
            }
        }
    };
    Some(Plan {
        writes: vec![sandbox::adoption(&view.claim, member, template)],
        takes: Some(uid_of(&member.metadata).to_owned()),
        notices: vec![Notice {
            gravity: Gravity::Normal,
            reason: reasons::event::SANDBOX_ADOPTED,
            action: "Adoption",
            note: format!("Adopted warm pool Sandbox {:?}", name_of(&**member)),
        }],
        ..Plan::default()
    })
}

/// A claim that was told to wait says so.
fn plan_waiting(view: &View, left: Option<Duration>) -> Plan {
    let claim = &*view.claim;
    let status = status::without_sandbox(claim, reasons::ADOPTION_PENDING, message::WAITING_FOR_MEMBER, view.now);
    Plan { parks: true, again: left, status: changed(claim, status), ..Plan::default() }
}

/// Pool and template; or what to do as long as one of them is missing.
#[expect(clippy::result_large_err, reason = "the other way out is a plan, not an error")]
fn found<'a>(view: &'a View, settings: &Settings) -> Result<(&'a SandboxWarmPool, &'a SandboxTemplate), Plan> {
    let claim = &*view.claim;
    let missing = |reason: &str, text: String| {
        let left = settings.missing_wait.saturating_sub(view.age);
        if !view.asked {
            return Plan { asks: true, ..Plan::default() };
        }
        if !left.is_zero() {
            return Plan { again: Some(left), ..Plan::default() };
        }
        let status = changed(claim, status::without_sandbox(claim, reason, &text, view.now));
        Plan { status, again: Some(MISSING_RECHECK), ..Plan::default() }
    };
    let pool = view.pool.as_deref().ok_or_else(|| {
        if let Some(template) = view.shadowed.as_deref().filter(|_| view.asked) {
            let pool = NewObject::SandboxWarmPool(Box::new(shadow::pool(template)));
            return Plan { writes: vec![Write::Create(pool)], ..Plan::default() };
        }
        let name = &claim.spec.warm_pool_ref.name;
        missing(reasons::WARM_POOL_NOT_FOUND, format!("SandboxWarmPool {name:?} not found"))
    })?;
    let template = view.template.as_deref().ok_or_else(|| {
        let name = template_of_pool(pool).name;
        missing(reasons::TEMPLATE_NOT_FOUND, format!("SandboxTemplate {name:?} not found"))
    })?;
    Ok((pool, template))
}

/// A Sandbox of the claim's name is somebody else's. That of a claim of the same name, gone by now, goes too.
fn plan_namesake(view: &View, namesake: &Sandbox) -> Plan {
    let claim = &*view.claim;
    let of_predecessor = controller_of(&namesake.metadata).is_some_and(|owner| {
        names_kind::<SandboxClaim>(owner)
            && owner.name == name_of(claim)
            && !is_controlled_by(&namesake.metadata, claim)
    });
    let left = PREDECESSOR_WAIT.saturating_sub(view.age);
    if (of_predecessor || is_terminating(&namesake.metadata)) && !left.is_zero() {
        return Plan { again: Some(left), ..Plan::default() };
    }
    let text = format!(
        "{}sandbox {:?} is not controlled by claim {:?}. Please use a different claim name or delete the sandbox manually",
        message::ERROR_SEEN,
        name_of(namesake),
        name_of(claim)
    );
    let status = status::without_sandbox(claim, reasons::RECONCILER_ERROR, &text, view.now);
    Plan { status: changed(claim, status), ..Plan::default() }
}

fn plan_refusal(view: &View, refusal: &Refusal) -> Plan {
    let status = status::refused(&view.claim, refusal.reason(), &refusal.to_string(), view.now);
    Plan { status: changed(&view.claim, status), ..Plan::default() }
}

/// What can wait until everything else is done.
fn housekeeping(view: &View, settings: &Settings) -> Vec<Write> {
    let claim = &*view.claim;
    let mut writes: Vec<Write> = view.legacy_policy.iter().map(|policy| Write::delete(&**policy)).collect();
    if settings.observability_annotations {
        let ready = conditions::find(&claim.status.clone().unwrap_or_default().conditions, condition::READY)
            .filter(|ready| ready.status == conditions::TRUE)
            .is_some();
        let age = k8s_openapi::jiff::SignedDuration::try_from(view.age).unwrap_or_default();
        let observed = view.now.checked_sub(age).unwrap_or(view.now);
        let stamps = [
            (annotations::CONTROLLER_FIRST_OBSERVED_AT, true, observed),
            (annotations::CLAIM_FIRST_READY_AT, ready, view.now),
        ];
        let missing: serde_json::Map<_, _> = stamps
            .into_iter()
            .filter(|(key, due, _)| *due && annotation(&claim.metadata, key).is_none())
            .map(|(key, _, time)| (key.to_owned(), json!(rfc3339_nanos(time))))
            .collect();
        if !missing.is_empty() {
            let patch = json!({"metadata": {"annotations": missing}});
            writes.push(Write::Merge { target: Target::of(claim), patch });
        }
    }
    writes
}

fn rfc3339_nanos(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// The status, unless it is what the claim has.
fn changed(claim: &SandboxClaim, status: SandboxClaimStatus) -> Option<SandboxClaimStatus> {
    (claim.status.as_ref() != Some(&status)).then_some(status)
}

#[cfg(test)]
mod tests;
