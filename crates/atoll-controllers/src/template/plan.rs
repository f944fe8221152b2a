//! What is to be done for one template: a pure function of what is seen.

use atoll_api::reasons::{condition, report as words};
use atoll_api::{SandboxTemplate, conditions, labels};
use atoll_stdx::name_hash;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::caches::name_of;
use crate::owner::{is_controlled_by, is_terminating, label};
use crate::report::{self, Statement};
use crate::template::policy::policy;
use crate::write::{NewObject, Target, Write};

/// What follows from a look at a template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    /// Why the policy can not be kept.
    pub(crate) problem: Option<String>,
}

/// What is to be done, and what is to be said of it.
pub(crate) fn plan_and_report(
    template: &SandboxTemplate,
    present: Option<&NetworkPolicy>,
    rival: Option<&SandboxTemplate>,
    now: Timestamp,
) -> Plan {
    let mut made = plan(template, present, rival);
    if !is_terminating(&template.metadata) {
        made.writes.extend(report::write(template, statements(template, &made, rival), now));
    }
    made
}

/// The template's conditions, as they are when the plan is carried out.
fn statements(template: &SandboxTemplate, made: &Plan, rival: Option<&SandboxTemplate>) -> Vec<Statement> {
    let problem = made.problem.clone().unwrap_or_default();
    let ready = if rival.is_some() {
        (condition::READY, conditions::FALSE, words::NAME_HASH_COLLISION, problem.clone())
    } else {
        (condition::READY, conditions::TRUE, words::ACCEPTED, String::new())
    };
    let policy = if rival.is_some() {
        (words::NETWORK_POLICY, conditions::FALSE, words::NAME_HASH_COLLISION, problem)
    } else if !template.spec.manages_network_policy() {
        (words::NETWORK_POLICY, conditions::FALSE, words::UNMANAGED, "no NetworkPolicy is wanted".to_owned())
    } else if made.problem.is_some() {
        (words::NETWORK_POLICY, conditions::FALSE, words::NOT_OWNED, problem)
    } else {
        (words::NETWORK_POLICY, conditions::TRUE, words::MANAGED, String::new())
    };
    vec![ready, policy]
}

/// What is to be done. `present` is the policy that has the right name, whoever's it is; `rival` an older template whose
/// name has the same hash.
pub(crate) fn plan(
    template: &SandboxTemplate,
    present: Option<&NetworkPolicy>,
    rival: Option<&SandboxTemplate>,
) -> Plan {
    let mut plan = Plan::default();
    if is_terminating(&template.metadata) {
        return plan;
    }
    // Its policy would select the other template's Pods.
    if let Some(rival) = rival {
        plan.problem = Some(format!(
            "the name of SandboxTemplate {:?} has the same hash as that of SandboxTemplate {:?}",
            name_of(template),
            name_of(rival)
        ));
        plan.writes.extend(present.filter(|policy| is_controlled_by(&policy.metadata, template)).map(Write::delete));
        return plan;
    }
    let hash = name_hash(name_of(template));
    if label(&template.metadata, labels::TEMPLATE_REF_HASH) != Some(hash.as_str()) {
        let patch = json!({"metadata": {"labels": {labels::TEMPLATE_REF_HASH: hash}}});
        plan.writes.push(Write::Merge { target: Target::of(template), patch });
    }
    let ours = present.filter(|policy| is_controlled_by(&policy.metadata, template));
    match (template.spec.manages_network_policy(), present, ours) {
        (false, _, Some(policy)) => plan.writes.push(Write::delete(policy)),
        (false, _, None) => {}
        (true, None, _) => plan.writes.push(Write::Create(NewObject::NetworkPolicy(Box::new(policy(template))))),
        (true, Some(_), Some(present)) => plan.writes.extend(repair(template, present)),
        (true, Some(foreign), None) => {
            plan.problem = Some(format!(
                "refusing to update NetworkPolicy {:?} as it is not controlled by SandboxTemplate {:?}",
                name_of(foreign),
                name_of(template)
            ));
        }
    }
    plan
}

fn repair(template: &SandboxTemplate, present: &NetworkPolicy) -> Option<Write> {
    let wanted = policy(template).spec.unwrap_or_default();
    if is_terminating(&present.metadata) || present.spec.as_ref().is_some_and(|spec| same(spec, &wanted)) {
        return None;
    }
    let mut spec = serde_json::to_value(wanted).expect("a policy is always JSON");
    for list in ["ingress", "egress"] {
        if spec.get(list).is_none() {
            spec[list] = Value::Null;
        }
    }
    Some(Write::Merge { target: Target::of(present), patch: json!({"spec": spec}) })
}

/// Equal but for empty lists that are absent on one side, and the protocol that the API server fills in.
fn same(left: &NetworkPolicySpec, right: &NetworkPolicySpec) -> bool {
    normal(left) == normal(right)
}

fn normal(spec: &NetworkPolicySpec) -> NetworkPolicySpec {
    let mut spec = spec.clone();
    for ports in spec
        .ingress
        .iter_mut()
        .flatten()
        .map(|rule| &mut rule.ports)
        .chain(spec.egress.iter_mut().flatten().map(|rule| &mut rule.ports))
    {
        for port in ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    spec.ingress = spec.ingress.filter(|rules| !rules.is_empty());
    spec.egress = spec.egress.filter(|rules| !rules.is_empty());
    spec
}

#[cfg(test)]
mod tests;
