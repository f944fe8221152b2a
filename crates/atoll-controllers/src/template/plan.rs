//! What is to be done for one template: a pure function of what is seen.

use atoll_api::{SandboxTemplate, labels};
use atoll_stdx::name_hash;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use serde_json::{Value, json};

use crate::caches::name_of;
use crate::owner::{is_controlled_by, is_terminating, label};
use crate::template::policy::policy;
use crate::write::{NewObject, Target, Write};

/// What follows from a look at a template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    /// Why the policy can not be kept.
    pub(crate) problem: Option<String>,
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
