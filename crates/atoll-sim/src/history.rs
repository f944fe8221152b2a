//! Looks at every write as it happens, straight from the store, and remembers the first promise that is broken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_rt::TaskGroup;
use atoll_store::{Change, Event, Store};
use serde_json::Value;

/// Everything that is stored.
const EVERYTHING: &str = "/";
const CLAIM: &str = "SandboxClaim";
const SANDBOX: &str = "Sandbox";

/// What was seen so far.
#[derive(Default)]
pub(crate) struct History {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    revision: u64,
    /// Which of the stores, one after the other, is followed.
    store: u32,
    /// By the UID of the Sandbox: the UID of the claim that took it.
    takers: HashMap<String, String>,
    /// By the UID of the claim: the Sandbox that its status names, by UID and name.
    bound: HashMap<String, (String, String)>,
    /// Sandboxes that exist, by namespace and name.
    sandboxes: HashMap<String, Present>,
    broken: Option<String>,
}

struct Present {
    uid: String,
    controller: String,
    deleting: bool,
}

impl History {
    /// Follows a store that was just opened: from where the one before was left.
    pub(crate) fn follow(self: &Arc<Self>, store: &Store, group: &TaskGroup) {
        let (from, number) = {
            let mut seen = self.lock();
            seen.store += 1;
            (seen.revision, seen.store)
        };
        let stored = store.current_revision();
        if stored < from {
            self.lock().break_promise(format!("writes {stored} to {from} were acknowledged, and are lost"));
        }
        let mut watch = match store.watch(EVERYTHING, from.min(stored)) {
            Ok(watch) => watch,
            Err(error) => return self.lock().break_promise(format!("the watch can not be resumed: {error}")),
        };
        let history = Arc::clone(self);
        group.spawn("history", async move {
            while let Ok(event) = watch.next().await {
                let mut seen = history.lock();
                // A store that was killed may have more to say. What it wrote, the next one says.
                if seen.store != number {
                    return;
                }
                seen.take(&event);
            }
        });
    }

    /// How many writes were seen.
    pub(crate) fn writes(&self) -> u64 {
        self.lock().revision
    }

    /// The first promise that was broken.
    pub(crate) fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn take(&mut self, event: &Event) {
        if event.revision() != self.revision + 1 {
            self.break_promise(format!("the watch jumps from write {} to {}", self.revision, event.revision()));
        }
        self.revision = event.revision();
        // Not everything is an object: the server keeps things of its own.
        let Ok(object) = serde_json::from_slice::<Value>(&event.record.value) else {
            return;
        };
        match (object["kind"].as_str(), event.change) {
            (Some(SANDBOX), Change::Put) => self.sandbox(&object),
            (Some(SANDBOX), Change::Delete) => {
                self.sandboxes.remove(&place(&object, text(&object["metadata"]["name"])));
            }
            (Some(CLAIM), Change::Put) => self.claim(&object),
            _ => {}
        }
    }

    /// A Sandbox is taken by one claim and never goes to another.
    fn sandbox(&mut self, sandbox: &Value) {
        let metadata = &sandbox["metadata"];
        let uid = text(&metadata["uid"]);
        let controller = controller(metadata);
        let controller_uid = controller.map(|owner| text(&owner["uid"])).unwrap_or_default();
        if controller.is_some_and(|owner| owner["kind"] == CLAIM) {
            let taker = self.takers.entry(uid.clone()).or_insert_with(|| controller_uid.clone()).clone();
            if taker != controller_uid {
                self.break_promise(format!(
                    "sandbox {} went from claim {taker} to claim {controller_uid}",
                    metadata["name"]
                ));
            }
        } else if let Some(taker) = self.takers.get(&uid) {
            let what = format!("sandbox {} was claim {taker}'s and is not any more", metadata["name"]);
            self.break_promise(what);
        }
        let present =
            Present { uid, controller: controller_uid, deleting: metadata.get("deletionTimestamp").is_some() };
        self.sandboxes.insert(place(sandbox, text(&metadata["name"])), present);
    }

    /// What a claim was told is its Sandbox stays so as long as it is; and it is nobody else's.
    fn claim(&mut self, claim: &Value) {
        let uid = text(&claim["metadata"]["uid"]);
        let name = text(&claim["status"]["sandbox"]["name"]);
        if name.is_empty() {
            self.bound.remove(&uid);
            return;
        }
        let (now_uid, controller) = match self.sandboxes.get(&place(claim, name.clone())) {
            Some(present) => (present.uid.clone(), present.controller.clone()),
            // Gone since the status was made up.
            None => return,
        };
        if controller != uid {
            self.break_promise(format!(
                "claim {} was told that sandbox {name} is its own; it is controlled by {controller:?}",
                claim["metadata"]["name"]
            ));
        }
        let before = self.bound.insert(uid.clone(), (now_uid.clone(), name.clone()));
        let Some((before_uid, before_name)) = before.filter(|(before_uid, _)| *before_uid != now_uid) else { return };
        let still = self.sandboxes.get(&place(claim, before_name.clone()));
        if still.is_some_and(|still| still.uid == before_uid && still.controller == uid && !still.deleting) {
            self.break_promise(format!(
                "claim {} was told first of sandbox {before_name}, which is still its own, and then of {name}",
                claim["metadata"]["name"]
            ));
        }
    }
}

fn controller(metadata: &Value) -> Option<&Value> {
    metadata["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

fn place(object: &Value, name: String) -> String {
    format!("{}/{name}", text(&object["metadata"]["namespace"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use atoll_store::{Expect, PutRequest, Value as Stored};
    use serde_json::json;

    use super::*;

    /// What the history says of these objects, written one after the other.
    async fn verdict(objects: &[Value]) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let group = TaskGroup::new("test");
        let store = Store::open(directory.path().join("test.db"), &group).expect("the store opens");
        let history: Arc<History> = Arc::default();
        history.follow(&store, &group);
        for object in objects {
            let key = format!("/registry/{}/ns/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
            let request = PutRequest { key, value: Stored::plain(object.to_string()), expect: Expect::Any };
            store.put(request).await.expect("it is written");
        }
        while history.writes() < objects.len() as u64 {
            tokio::task::yield_now().await;
        }
        group.cancel();
        history.broken()
    }

    fn sandbox(name: &str, owner: Option<&str>) -> Value {
        let owners: Vec<Value> =
            owner.iter().map(|uid| json!({"kind": CLAIM, "uid": uid, "controller": true})).collect();
        let metadata = json!({"namespace": "ns", "name": name, "uid": name, "ownerReferences": owners});
        json!({"kind": SANDBOX, "metadata": metadata})
    }

    fn claim(name: &str, bound: &str) -> Value {
        let metadata = json!({"namespace": "ns", "name": name, "uid": name});
        json!({"kind": CLAIM, "metadata": metadata, "status": {"sandbox": {"name": bound}}})
    }

    #[tokio::test]
    async fn broken_promises_are_seen() {
        let taken = || sandbox("s", Some("a"));
        for (objects, words) in [
            (vec![sandbox("s", None), taken(), claim("a", "s"), claim("a", "s")], None),
            (vec![taken(), sandbox("s", Some("b"))], Some("went from claim a to claim b")),
            (vec![taken(), sandbox("s", None)], Some("was claim a's and is not any more")),
            (vec![taken(), claim("b", "s")], Some("was told that sandbox s is its own")),
            (
                vec![taken(), claim("a", "s"), sandbox("t", Some("a")), claim("a", "t")],
                Some("which is still its own, and then of t"),
            ),
        ] {
            let verdict = verdict(&objects).await;
            match words {
                None => assert_eq!(verdict, None),
                Some(words) => assert!(verdict.as_ref().is_some_and(|what| what.contains(words)), "{verdict:?}"),
            }
        }
    }
}
