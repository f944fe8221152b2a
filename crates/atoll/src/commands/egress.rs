//! `atoll egress`: what sandboxes connect to, and what they may.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use atoll_egress::controller::{FLOOR_KEY, FLOOR_NAME, FLOOR_NAMESPACE};
use atoll_egress::floor::Floor;
use atoll_egress::name::NamePattern;
use atoll_egress::record::{ConnectionRecord, Stage};
use atoll_egress::rules::{Allow, RULES_KEY, RULES_LABEL, RuleSet};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::args::{EgressCommand, GlobalArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::{Plane, accept};
use crate::printer::Printer;

/// Longest line of a plane's answer.
const LINE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) async fn egress(global: &GlobalArgs, command: EgressCommand, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    match command {
        EgressCommand::Ls { follow, namespace, sandbox } => list(&plane, follow, namespace, sandbox, printer).await,
        EgressCommand::Allow { destination, template, namespace, raw } => {
            let added = parse_destination(&destination, raw)?;
            change_rules(&plane, &namespace, template, |rules| add(rules, added)).await?;
            printer.note(format!("{destination} is allowed in {namespace}"));
            Ok(ExitCode::SUCCESS)
        }
        EgressCommand::Deny { destination, template, namespace } => {
            let taken = parse_destination(&destination, false)?;
            change_rules(&plane, &namespace, template, |rules| remove(rules, &taken)).await?;
            printer.note(format!("{destination} is not allowed in {namespace} any more"));
            Ok(ExitCode::SUCCESS)
        }
        EgressCommand::Floor { open } => floor(&plane, &open, printer).await,
        EgressCommand::Grant { name, sandbox, namespace, seconds } => {
            let body = json!({"namespace": namespace, "sandbox": sandbox, "name": name, "seconds": seconds});
            let given: Value = plane.post("/v1/egress/grants", &body).await?;
            printer.note(format!("{name} is open to {namespace}/{sandbox} for {seconds} seconds"));
            if printer.is_json() {
                printer.json(&given);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(
    plane: &Plane,
    follow: bool,
    namespace: Option<String>,
    sandbox: Option<String>,
    printer: &Printer,
) -> Outcome {
    let problems: Vec<String> = plane.get("/v1/egress/problems").await?;
    problems.iter().for_each(|problem| printer.note(format!("not in force: {problem}")));
    let mut query = vec![("follow", follow.to_string())];
    query.extend(namespace.map(|namespace| ("namespace", namespace)));
    query.extend(sandbox.map(|sandbox| ("sandbox", sandbox)));
    let text: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("/v1/egress/connections?{}", text.join("&"));
    let response = accept(plane.request(reqwest::Method::GET, &path).send().await).await?;
    let mut pieces = response.bytes_stream();
    let mut waiting = Vec::new();
    let broken = |error: reqwest::Error| Failure::because(Exit::Unreachable, "the plane went away", &error);
    while let Some(piece) = pieces.try_next().await.map_err(broken)? {
        waiting.extend_from_slice(&piece);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            tell(&line, printer);
        }
        if waiting.len() > LINE_BYTES_MAX {
            return Err(Failure::new(Exit::Failure, "the plane's answer could not be understood"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(line: &[u8], printer: &Printer) {
    let text = String::from_utf8_lossy(line);
    if printer.is_json() {
        return printer.data(text.trim_end());
    }
    match serde_json::from_slice::<ConnectionRecord>(line) {
        Ok(record) => printer.data(told(&record)),
        Err(_) => printer.note(format!("some records were missed: {}", text.trim_end())),
    }
}

fn told(record: &ConnectionRecord) -> String {
    let host = match (&record.name, record.address) {
        (Some(name), Some(address)) => format!("{name}:{} ({address})", record.port),
        (Some(name), None) if record.port == 0 => name.clone(),
        (Some(name), None) => format!("{name}:{}", record.port),
        (None, Some(address)) => format!("{address}:{}", record.port),
        (None, None) => format!("port {}", record.port),
    };
    let who = format!("{}/{}", record.namespace, record.sandbox);
    let protocol = serde_json::to_value(record.protocol).ok().and_then(|value| Some(value.as_str()?.to_owned()));
    let protocol = protocol.unwrap_or_default();
    let reason = record.reason.as_deref().unwrap_or_default();
    match record.stage {
        Stage::Opened => {
            format!("open     {who}  {protocol}  {host}  by {}", record.rule.as_deref().unwrap_or("-"))
        }
        Stage::Closed => format!(
            "closed   {who}  {protocol}  {host}  {} B out, {} B in, {} ms{}{reason}",
            record.bytes_sent,
            record.bytes_received,
            record.duration_ms,
            if reason.is_empty() { "" } else { "  " },
        ),
        Stage::Refused => {
            let command = record.allow_with.as_deref().map(|command| format!("  allow: {command}")).unwrap_or_default();
            format!("refused  {who}  {protocol}  {host}  {reason}{command}")
        }
    }
}

/// `NAME`, `*.NAME` or `ADDRESS`, with `:PORT`.
fn parse_destination(text: &str, raw: bool) -> Result<Allow, Failure> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)),
        None => (text, Some(443)),
    };
    let wrong = |why: String| {
        Failure::new(Exit::Usage, format!("{text:?} is no destination: {why}"))
            .hint("for example api.example.com, *.example.com:8443 or 192.0.2.7:5432")
    };
    let port = port.ok_or_else(|| wrong("its port is no number from 1 to 65535".to_owned()))?;
    let address = host.parse::<Ipv4Addr>().ok();
    let name = match address {
        Some(_) => None,
        None => Some(NamePattern::parse(host).map_err(|error| wrong(error.to_string()))?),
    };
    let address = address.map(|address| address.to_string());
    Ok(Allow { name, address, ports: vec![port], raw, ..Allow::default() })
}

fn add(rules: &mut RuleSet, added: Allow) {
    let plain = |allow: &Allow| {
        let same = allow.name == added.name && allow.address == added.address && allow.raw == added.raw;
        same && !allow.is_about_requests() && !allow.on_approval
    };
    match rules.allow.iter_mut().find(|allow| plain(allow)) {
        Some(known) => {
            known.ports.extend(&added.ports);
            known.ports.sort_unstable();
            known.ports.dedup();
        }
        None => rules.allow.push(added),
    }
}

fn remove(rules: &mut RuleSet, taken: &Allow) {
    for allow in rules.allow.iter_mut().filter(|allow| allow.name == taken.name && allow.address == taken.address) {
        allow.ports.retain(|port| !taken.ports.contains(port));
    }
    rules.allow.retain(|allow| !allow.ports.is_empty());
}

/// Reads a namespace's (or a template's) rules, changes them and writes them back.
async fn change_rules(
    plane: &Plane,
    namespace: &str,
    template: Option<String>,
    change: impl FnOnce(&mut RuleSet),
) -> Result<(), Failure> {
    let api: Api<ConfigMap> = Api::namespaced(plane.kube().await?, namespace);
    let name = template.as_ref().map_or_else(|| "egress".to_owned(), |template| format!("egress-{template}"));
    let present = api.get_opt(&name).await.map_err(|error| api_failure(&error))?;
    let text = present.as_ref().and_then(|object| object.data.as_ref()?.get(RULES_KEY).cloned());
    let mut rules = match text {
        Some(text) => RuleSet::parse(&text).map_err(|error| {
            Failure::because(
                Exit::Failure,
                format!("the rules in configmap {namespace}/{name} are not understood"),
                &error,
            )
            .hint(format!("mend them with `kubectl edit configmap {name} -n {namespace}`"))
        })?,
        None => RuleSet { template, ..RuleSet::default() },
    };
    change(&mut rules);
    let text = serde_json::to_string_pretty(&rules).expect("rules are plain values");
    RuleSet::parse(&text).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    write_config(&api, present, &name, (RULES_KEY, text), Some(RULES_LABEL)).await
}

async fn write_config(
    api: &Api<ConfigMap>,
    present: Option<ConfigMap>,
    name: &str,
    (key, text): (&str, String),
    label: Option<(&str, &str)>,
) -> Result<(), Failure> {
    let exists = present.is_some();
    let mut object = present.unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    });
    object.data.get_or_insert_default().insert(key.to_owned(), text);
    if let Some((label, value)) = label {
        object.metadata.labels.get_or_insert_default().insert(label.to_owned(), value.to_owned());
    }
    let params = PostParams::default();
    // With the version that was read: a change by somebody else meanwhile is refused.
    let written = if exists { api.replace(name, &params, &object).await } else { api.create(&params, &object).await };
    written.map(drop).map_err(|error| api_failure(&error))
}

async fn floor(plane: &Plane, open: &[String], printer: &Printer) -> Outcome {
    let api: Api<ConfigMap> = Api::namespaced(plane.kube().await?, FLOOR_NAMESPACE);
    let present = api.get_opt(FLOOR_NAME).await.map_err(|error| api_failure(&error))?;
    let text = match open {
        [] => present.as_ref().and_then(|object| object.data.as_ref()?.get(FLOOR_KEY).cloned()).unwrap_or_default(),
        [closed] if closed == "closed" => String::new(),
        words => words.join(" "),
    };
    let floor = Floor::parse(&text, &[]).map_err(|error| {
        Failure::because(Exit::Usage, "this is no egress floor", &error).hint("for example `atoll egress floor public`")
    })?;
    if !open.is_empty() {
        write_config(&api, present, FLOOR_NAME, (FLOOR_KEY, text.clone()), None).await?;
    }
    if printer.is_json() {
        printer.json(&json!({ "open": text }));
    } else {
        printer.data(floor.describe());
    }
    Ok(ExitCode::SUCCESS)
}

fn api_failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let exit = match status.code {
                403 => Exit::Refused,
                404 => Exit::NotFound,
                _ => Exit::Failure,
            };
            Failure::new(exit, status.message.clone())
        }
        other => Failure::because(Exit::Unreachable, "the Kubernetes API does not answer", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read() {
        for (text, expected) in [
            ("api.example.com", Some(("api.example.com", 443))),
            ("*.example.com:8443", Some(("*.example.com", 8443))),
            ("192.0.2.7:5432", Some(("192.0.2.7", 5432))),
            ("a.example:0", None),
            ("a.example:x", None),
            ("*", None),
            ("http://a.example", None),
            ("127.1", None),
        ] {
            let parsed = parse_destination(text, false).ok();
            let found = parsed.map(|allow| (allow.called(), allow.ports[0]));
            assert_eq!(found, expected.map(|(name, port)| (name.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn ports_are_added_and_taken_back() {
        let destination = |text: &str| parse_destination(text, false).expect("a destination");
        let mut rules = RuleSet::default();
        for text in ["a.example", "a.example:80", "a.example:80", "b.example"] {
            add(&mut rules, destination(text));
        }
        assert_eq!((rules.allow.len(), rules.allow[0].ports.clone()), (2, vec![80, 443]));
        remove(&mut rules, &destination("a.example"));
        assert_eq!(rules.allow[0].ports, [80]);
        remove(&mut rules, &destination("a.example:80"));
        assert_eq!(rules.allow.len(), 1);
    }
}
