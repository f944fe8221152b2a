//! Events about Pods: only warnings, best effort.

use std::sync::Arc;

use atoll_rt::clock::now_unix_ms;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use crate::node::Shared;
use crate::pod::PodIdentity;
use crate::status::time;

const MESSAGE_BYTES_MAX: usize = 1024;
const NAME_SUFFIX_BYTES: usize = 8;

/// Tells that something is wrong with a Pod. Dropped when too many others are being told.
pub(crate) fn warn(shared: &Arc<Shared>, identity: &PodIdentity, reason: &str, message: &str) {
    let Ok(permit) = Arc::clone(&shared.event_writes).try_acquire_owned() else {
        tracing::debug!(pod = %identity.name, reason, "an Event was dropped");
        return;
    };
    let event = event(shared, identity, reason, message);
    let api: Api<Event> = Api::namespaced(shared.client.clone(), &identity.namespace);
    shared.group.spawn("node-event", async move {
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(cause = %atoll_stdx::chain(&error), "an Event could not be written");
        }
        drop(permit);
    });
}

fn event(shared: &Shared, identity: &PodIdentity, reason: &str, message: &str) -> Event {
    let now = time(now_unix_ms());
    let cut =
        message.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MESSAGE_BYTES_MAX).last();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", identity.name, atoll_rt::ids::random_hex(NAME_SUFFIX_BYTES))),
            namespace: Some(identity.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
            uid: Some(identity.uid.clone()),
            ..ObjectReference::default()
        },
        reason: Some(reason.to_owned()),
        message: Some(message[..cut.unwrap_or(0)].to_owned()),
        type_: Some("Warning".to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource { component: Some("atoll-node".to_owned()), host: Some(shared.config.name.clone()) }),
        reporting_component: Some("atoll-node".to_owned()),
        reporting_instance: Some(shared.config.name.clone()),
        ..Event::default()
    }
}
