//! The status of a Sandbox, from what is seen of its Pod and Service.

use atoll_api::reasons::{self, condition, message};
use atoll_api::sandbox::SandboxStatus;
use atoll_api::{Sandbox, conditions, labels};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::caches::{name_of, namespace_of};
use crate::owner::is_controlled_by;
use crate::sandbox::children::{Problem, name_label};

/// What the status is made from.
pub(crate) struct Facts<'a> {
    pub(crate) sandbox: &'a Sandbox,
    /// The Pod of the right name, ours or not.
    pub(crate) pod: Option<&'a Pod>,
    /// Whether a missing Pod means that it is unclear whether there is one.
    pub(crate) pod_unclear: bool,
    pub(crate) service_exists: bool,
    pub(crate) problem: Option<&'a Problem>,
    pub(crate) cluster_domain: &'a str,
    pub(crate) now: Timestamp,
}

impl Facts<'_> {
    /// The status as it should be.
    pub(crate) fn status(&self) -> SandboxStatus {
        let old = self.sandbox.status.clone().unwrap_or_default();
        let own_pod = self.own_pod();
        let mut status = SandboxStatus {
            selector: old
                .selector
                .or_else(|| own_pod.map(|_| format!("{}={}", labels::SANDBOX_NAME_HASH, name_label(self.sandbox)))),
            conditions: old.conditions,
            ..SandboxStatus::default()
        };
        if self.service_exists {
            let (name, namespace) = (name_of(self.sandbox), namespace_of(self.sandbox));
            status.service = Some(name.to_owned());
            status.service_fqdn = Some(format!("{name}.{namespace}.svc.{}", self.cluster_domain));
        }
        if let Some(pod) = own_pod {
            status.pod_ips = pod_ips(pod);
            status.node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        }
        let computed = [
            (condition::SUSPENDED, Some(self.suspended())),
            (condition::FINISHED, self.finished()),
            (condition::POD_SCHEDULED, self.pod_scheduled()),
            (condition::READY, Some(self.ready())),
        ];
        for (type_, computed) in computed {
            match computed {
                Some(computed) => conditions::set(&mut status.conditions, computed),
                None => conditions::remove(&mut status.conditions, type_),
            }
        }
        status
    }

    fn own_pod(&self) -> Option<&Pod> {
        self.pod.filter(|pod| is_controlled_by(&pod.metadata, self.sandbox))
    }

    fn condition(&self, type_: &str, status: &str, reason: &str, message: impl Into<String>) -> Condition {
        conditions::new(type_, status, reason, message, self.sandbox.metadata.generation, Time(self.now))
    }

    fn ready(&self) -> Condition {
        let (status, reason, text) = self.readiness();
        self.condition(condition::READY, status, reason, text)
    }

    fn readiness(&self) -> (&'static str, &'static str, String) {
        match self.problem {
            Some(problem @ Problem::MultiplePods(_)) => {
                return (conditions::FALSE, reasons::MULTIPLE_PODS, problem.to_string());
            }
            Some(problem @ (Problem::Invalid(_) | Problem::Collision(_))) => {
                return (conditions::FALSE, reasons::INVALID_CONFIGURATION, problem.to_string());
            }
            Some(problem) => {
                return (conditions::FALSE, reasons::RECONCILER_ERROR, format!("{}{problem}", message::ERROR_SEEN));
            }
            None => {}
        }
        if self.sandbox.spec.is_suspended() {
            let text = if self.pod.is_some() { message::SUSPENDING } else { message::IS_SUSPENDED };
            return (conditions::FALSE, reasons::SANDBOX_SUSPENDED, text.to_owned());
        }
        match self.pod.map(phase) {
            Some("Succeeded") => {
                return (conditions::FALSE, reasons::POD_SUCCEEDED, message::POD_COMPLETED.to_owned());
            }
            Some("Failed") => return (conditions::FALSE, reasons::POD_FAILED, message::POD_FAILED.to_owned()),
            _ => {}
        }
        let (pod_ready, mut text) = self.pod_readiness();
        let service_wanted = self.sandbox.spec.service.unwrap_or(self.service_exists);
        if service_wanted {
            text.push_str(if self.service_exists { message::SERVICE_EXISTS } else { message::SERVICE_DOES_NOT_EXIST });
        }
        if pod_ready && (self.service_exists || !service_wanted) {
            (conditions::TRUE, reasons::DEPENDENCIES_READY, text)
        } else {
            (conditions::FALSE, reasons::DEPENDENCIES_NOT_READY, text)
        }
    }

    fn pod_readiness(&self) -> (bool, String) {
        let Some(pod) = self.pod else { return (false, message::POD_DOES_NOT_EXIST.to_owned()) };
        match phase(pod) {
            "Running" if !is_pod_ready(pod) => (false, message::POD_RUNNING_NOT_READY.to_owned()),
            "Running" if pod_ips(pod).is_empty() => (false, message::POD_READY_WITHOUT_IPS.to_owned()),
            "Running" => (true, message::POD_READY.to_owned()),
            phase => (false, format!("{}{phase}", message::POD_EXISTS_WITH_PHASE)),
        }
    }

    fn suspended(&self) -> Condition {
        let (status, reason, text) = if !self.sandbox.spec.is_suspended() {
            (conditions::FALSE, reasons::NOT_SUSPENDED, message::NOT_SUSPENDED)
        } else if self.pod.is_none() && self.pod_unclear {
            (conditions::UNKNOWN, reasons::POD_STATE_UNKNOWN, message::POD_STATE_UNKNOWN)
        } else if self.pod.is_none() {
            (conditions::TRUE, reasons::POD_TERMINATED, message::POD_TERMINATED)
        } else if self.own_pod().is_none() {
            (conditions::FALSE, reasons::POD_NOT_OWNED, message::POD_NOT_OWNED)
        } else {
            (conditions::FALSE, reasons::POD_TERMINATING, message::POD_TERMINATING)
        };
        self.condition(condition::SUSPENDED, status, reason, text)
    }

    fn finished(&self) -> Option<Condition> {
        let (reason, text) = match phase(self.own_pod()?) {
            "Succeeded" => (reasons::POD_SUCCEEDED, message::POD_COMPLETED),
            "Failed" => (reasons::POD_FAILED, message::POD_FAILED),
            _ => return None,
        };
        Some(self.condition(condition::FINISHED, conditions::TRUE, reason, text))
    }

    fn pod_scheduled(&self) -> Option<Condition> {
        let unknown = |text: &str| {
            Some(self.condition(condition::POD_SCHEDULED, conditions::UNKNOWN, reasons::POD_SCHEDULING_UNKNOWN, text))
        };
        if self.pod.is_none() && self.pod_unclear {
            return unknown(message::POD_SCHEDULING_UNKNOWN);
        }
        let pod = self.own_pod()?;
        let scheduled = pod_condition(pod, condition::POD_SCHEDULED);
        let Some(scheduled) = scheduled else { return unknown(message::POD_NOT_SCHEDULED_YET) };
        let given = scheduled.reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = given.unwrap_or(if scheduled.status == conditions::TRUE {
            reasons::POD_SCHEDULED
        } else {
            reasons::POD_SCHEDULING_UNKNOWN
        });
        let text = scheduled.message.clone().unwrap_or_default();
        Some(self.condition(condition::POD_SCHEDULED, &scheduled.status, reason, text))
    }
}

/// The status of a Sandbox whose time is over but whose children are still there.
pub(crate) fn expiring(sandbox: &Sandbox, now: Timestamp) -> SandboxStatus {
    let mut status = sandbox.status.clone().unwrap_or_default();
    conditions::remove(&mut status.conditions, condition::POD_SCHEDULED);
    conditions::set(
        &mut status.conditions,
        conditions::new(
            condition::READY,
            conditions::FALSE,
            reasons::SANDBOX_EXPIRED,
            message::SANDBOX_HAS_EXPIRED,
            sandbox.metadata.generation,
            Time(now),
        ),
    );
    status
}

/// The status of a Sandbox whose time is over and whose children are gone: conditions alone.
pub(crate) fn expired(sandbox: &Sandbox, now: Timestamp) -> SandboxStatus {
    SandboxStatus { conditions: expiring(sandbox, now).conditions, ..SandboxStatus::default() }
}

/// Whether the Sandbox has been told that its time is over.
pub(crate) fn is_expired(sandbox: &Sandbox) -> bool {
    sandbox
        .status
        .as_ref()
        .is_some_and(|status| conditions::reason(&status.conditions, condition::READY) == reasons::SANDBOX_EXPIRED)
}

/// The phase; a Pod that says nothing is pending.
fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn is_pod_ready(pod: &Pod) -> bool {
    pod_condition(pod, condition::READY).is_some_and(|ready| ready.status == conditions::TRUE)
}

fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn pod_ips(pod: &Pod) -> Vec<String> {
    let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
    ips.into_iter().flatten().map(|ip| ip.ip.clone()).filter(|ip| !ip.is_empty()).collect()
}
