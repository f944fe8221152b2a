//! log, exec, attach and portforward: found good here, answered by the Pod's node.

use http::StatusCode;
use serde_json::Value;

use crate::body::ResponseBody;
use crate::node_proxy::{NodeRefusal, NodeRequest, PodStream};
use crate::reply::Reply;
use crate::request::Query;
use crate::schema::{Cause, Reason};
use crate::status::{About, ApiError};

use super::Call;

impl Call {
    /// Passes the request on to the node.
    pub(super) async fn stream(&self, stream: PodStream) -> Result<Reply, ApiError> {
        if stream == PodStream::Log {
            check_log_options(&self.query, self.name())?;
        }
        let key = self.resource.key(self.namespace(), self.name());
        let about = self.resource.about(self.name());
        let record = self.server.store().get(&key).ok_or_else(|| ApiError::not_found(&about))?;
        let pod = self.resource.decode(&record.value);
        let container = match stream {
            PodStream::PortForward => String::new(),
            _ => chosen_container(&pod, self.name(), self.query.get("container"))?,
        };
        if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
            return match stream {
                PodStream::Log => Ok(Reply::text(StatusCode::OK, "")),
                _ => Err(ApiError::bad_request(format!("pod {} does not have a host assigned", self.name()))),
            };
        }
        let proxy = self.server.node_proxy().ok_or_else(|| ApiError::unavailable("the node is not ready yet"))?;
        let request = NodeRequest {
            stream,
            pod,
            container,
            identity: self.identity.clone(),
            method: self.method.clone(),
            query: self.query.pairs().to_vec(),
            headers: self.headers.clone(),
            extensions: self.extensions.clone(),
        };
        let answer = proxy.call(request).await.map_err(refused)?;
        let (parts, body) = answer.into_parts();
        Ok(Reply::passed_on(parts, ResponseBody::from_node(body)))
    }
}

fn refused(refusal: NodeRefusal) -> ApiError {
    match refusal.code {
        StatusCode::BAD_REQUEST => ApiError::bad_request(refusal.message),
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(refusal.message),
        StatusCode::TOO_MANY_REQUESTS => ApiError::too_many_requests(),
        code => ApiError::unknown(code, refusal.message),
    }
}

/// The container that is asked for, or the only one.
fn chosen_container(pod: &Value, name: &str, wanted: Option<&str>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str()).collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    match wanted {
        Some(wanted) if [&containers, &init, &ephemeral].iter().any(|list| list.contains(&wanted)) => {
            Ok(wanted.to_owned())
        }
        Some(wanted) => Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None => match containers.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
            several => {
                let mut message = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    several.join(" ")
                );
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(ApiError::bad_request(message))
            }
        },
    }
}

fn check_log_options(query: &Query, pod: &str) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    for (field, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        let Some(number) = query.number(field)?.filter(|number| *number < least) else { continue };
        let message =
            format!("Invalid value: {number}: must be greater than {}", if least == 0 { "or equal to 0" } else { "0" });
        causes.push(Cause { reason: Reason::FieldValueInvalid, field: field.to_owned(), message });
    }
    let since_time = query.get("sinceTime");
    if since_time.is_some() && query.get("sinceSeconds").is_some() {
        let message = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned();
        causes.push(Cause { reason: Reason::FieldValueForbidden, field: String::new(), message });
    }
    if let Some(text) = since_time.filter(|text| text.parse::<jiff::Timestamp>().is_err()) {
        return Err(ApiError::bad_request(format!("sinceTime {text:?} is not a time in RFC 3339")));
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&About { group: "", kind: "PodLogOptions", name: pod }, &causes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_is_the_one_asked_for_or_the_only_one() {
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let cases = [
            (&one, None, Ok("a")),
            (&one, Some("b"), Err("container b is not valid for pod p")),
            (&two, Some("i"), Ok("i")),
            (
                &two,
                None,
                Err(
                    "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
                ),
            ),
        ];
        for (pod, wanted, expected) in cases {
            let found = chosen_container(pod, "p", wanted).map_err(|error| error.message);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{wanted:?}");
        }
    }

    #[test]
    fn options_of_a_log_that_make_no_sense_are_refused() {
        let cases = [
            ("tailLines=0&limitBytes=1&sinceSeconds=1", None),
            ("sinceTime=2026-01-02T03:04:05Z", None),
            ("tailLines=-1", Some("PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1")),
            ("limitBytes=0", Some("limitBytes: Invalid value: 0")),
            ("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", Some("at most one of")),
            ("sinceTime=yesterday", Some("\"yesterday\" is not a time")),
        ];
        for (text, expected) in cases {
            let refused = check_log_options(&Query::parse(Some(text)), "p").err().map(|error| error.message);
            match expected {
                None => assert_eq!(refused, None, "{text}"),
                Some(words) => assert!(refused.as_ref().is_some_and(|it| it.contains(words)), "{text}: {refused:?}"),
            }
        }
    }
}
