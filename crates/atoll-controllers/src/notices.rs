//! Events: told to people, never read by the controllers, and never in the way of work.

use atoll_api::reasons;
use atoll_rt::TaskGroup;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use tokio::sync::mpsc;

/// Events that wait to be written; more are dropped.
const NOTICES_MAX: usize = 4_096;
/// The controllers, as Events name them.
const REPORTING_CONTROLLER: &str = "agent-sandbox-controller";
/// The longest note that the API accepts.
const NOTE_BYTES_MAX: usize = 1_024;

/// How much an Event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Gravity {
    /// It is as it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// An Event to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Notice {
    pub(crate) gravity: Gravity,
    pub(crate) reason: &'static str,
    pub(crate) action: &'static str,
    pub(crate) note: String,
}

impl Notice {
    /// Something that was to be made was refused.
    pub(crate) const fn refused(note: String) -> Self {
        Self { gravity: Gravity::Warning, reason: reasons::event::FAILED_CREATE, action: "Creating", note }
    }
}

/// Where notices go.
#[derive(Clone)]
pub(crate) struct Notices {
    sender: Option<mpsc::Sender<Event>>,
    instance: String,
}

impl Notices {
    /// Starts the task that writes Events.
    pub(crate) fn start(client: kube::Client, group: &TaskGroup) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Event>(NOTICES_MAX);
        let stop = group.token();
        group.spawn("events", async move {
            loop {
                let event = tokio::select! {
                    event = receiver.recv() => event,
                    () = stop.cancelled() => return,
                };
                let Some(event) = event else { return };
                let namespace = event.namespace().unwrap_or_default();
                let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
                if let Err(error) = api.create(&PostParams::default(), &event).await {
                    tracing::debug!(error = atoll_stdx::chain(&error), "an event was not written");
                }
            }
        });
        Self { sender: Some(sender), instance: format!("atoll-{}", atoll_rt::ids::random_hex(4)) }
    }

    /// Notices go nowhere.
    pub(crate) fn off() -> Self {
        Self { sender: None, instance: String::new() }
    }

    /// Tells about an object.
    pub(crate) fn tell<K: Resource<DynamicType = ()>>(&self, about: &K, notice: &Notice, now: Timestamp) {
        let Some(sender) = &self.sender else { return };
        let event = Event {
            metadata: ObjectMeta {
                namespace: about.meta().namespace.clone(),
                name: Some(format!("{}.{}", about.name_any(), atoll_rt::ids::random_hex(8))),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(
                match notice.gravity {
                    Gravity::Normal => "Normal",
                    Gravity::Warning => "Warning",
                }
                .to_owned(),
            ),
            reason: Some(notice.reason.to_owned()),
            action: Some(notice.action.to_owned()),
            note: Some(cut(&notice.note)),
            regarding: Some(ObjectReference { resource_version: about.resource_version(), ..about.object_ref(&()) }),
            reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        if sender.try_send(event).is_err() {
            tracing::debug!(reason = notice.reason, "an event was dropped");
        }
    }
}

fn cut(note: &str) -> String {
    let end = note.char_indices().map(|(start, char)| start + char.len_utf8()).take_while(|end| *end <= NOTE_BYTES_MAX);
    note[..end.last().unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let cut = cut(&"ä".repeat(1_000));
        assert_eq!(cut.len(), NOTE_BYTES_MAX);
        assert_eq!(cut.chars().count(), NOTE_BYTES_MAX / 2);
    }
}
