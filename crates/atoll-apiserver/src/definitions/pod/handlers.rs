//! Checks of probes and lifecycle handlers.

use serde_json::Value;

use super::super::names;
use super::super::view::View;
use crate::schema::Cause;

/// Kinds of handlers, in the order in which a second one is refused.
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// Checks what is run around a container's life.
pub(crate) fn check_lifecycle(container: &View<'_>, causes: &mut Vec<Cause>) {
    let lifecycle = container.field("lifecycle");
    for name in ["postStart", "preStop"] {
        let handler = lifecycle.field(name);
        if handler.is_set() {
            check_handler(&handler, causes);
        }
    }
}

/// Checks the three probes of a container.
pub(crate) fn check_probes(container: &View<'_>, causes: &mut Vec<Cause>) {
    for name in PROBES {
        let probe = container.field(name);
        if !probe.is_set() {
            continue;
        }
        check_handler(&probe, causes);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            probe.field(field).not_negative(causes);
        }
        let grace = probe.field("terminationGracePeriodSeconds");
        if grace.number().is_some_and(|seconds| seconds <= 0) {
            causes.push(Cause::invalid(&grace.path, grace.value.clone(), "must be greater than 0"));
        }
        let successes = probe.field("successThreshold");
        if name == "readinessProbe" {
            if grace.is_set() {
                causes.push(Cause::invalid(&grace.path, grace.value.clone(), "must not be set for readinessProbes"));
            }
        } else if successes.number() != Some(1) {
            causes.push(Cause::invalid(&successes.path, successes.number().unwrap_or_default(), "must be 1"));
        }
    }
}

fn check_handler(parent: &View<'_>, causes: &mut Vec<Cause>) {
    let mut found = false;
    for name in HANDLERS {
        let handler = parent.field(name);
        if !handler.is_set() {
            continue;
        }
        if found {
            causes.push(Cause::forbidden(&handler.path, "may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match name {
            "exec" => {
                handler.field("command").require(causes);
            }
            "httpGet" => check_http(&handler, causes),
            "tcpSocket" => check_port(&handler.field("port"), causes),
            "grpc" => {
                let port = handler.field("port");
                port.report(&names::port_number(port.number().unwrap_or_default()), causes);
            }
            _ => {
                let seconds = handler.field("seconds");
                if seconds.number().unwrap_or_default() < 0 {
                    seconds.report(&["must be greater than or equal to 0".to_owned()], causes);
                }
            }
        }
    }
    if !found {
        causes.push(Cause::required(&parent.path, "must specify a handler type"));
    }
}

fn check_http(handler: &View<'_>, causes: &mut Vec<Cause>) {
    handler.field("path").require(causes);
    check_port(&handler.field("port"), causes);
    handler.field("scheme").one_of_if_set(&["HTTP", "HTTPS"], causes);
    for header in handler.field("httpHeaders").items() {
        let name = header.field("name").text();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            let problem = "a valid HTTP header must consist of alphanumeric characters or '-' \
                (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            causes.push(Cause::invalid(handler.path.field("httpHeaders"), name, problem));
        }
    }
}

/// Checks a port that is a number or a name.
pub(crate) fn check_port(port: &View<'_>, causes: &mut Vec<Cause>) {
    match port.value {
        Value::String(name) => port.report(&names::port_name(name), causes),
        _ => {
            let number = port.number().unwrap_or_default();
            let problems = names::port_number(number);
            causes.extend(problems.iter().map(|problem| Cause::invalid(&port.path, number, problem)));
        }
    }
}
