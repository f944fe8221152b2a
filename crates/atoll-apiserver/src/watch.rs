//! A watch as the body of an answer: one JSON line for each event, flushed as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_rt::CancellationToken;
use atoll_store::{Change, Event, Record, Store, Watch, WatchError};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use crate::definitions::Origin;
use crate::objects::View;
use crate::registry::Resource;
use crate::reply::Form;
use crate::selectors::{FieldSelector, LabelSelector};
use crate::server::ApiServer;
use crate::status::ApiError;

/// Events leave in pieces of about this size.
const PIECE_BYTES: usize = 32 * 1024;
/// How often a client that wants bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// Which objects a list or watch is about.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) resource: Arc<Resource>,
    /// The kind in whose form they are stored.
    pub(crate) stored: Arc<Resource>,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Filter {
    pub(crate) fn is_open(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        if self.is_open() {
            return true;
        }
        let view = View::of(record, &self.stored);
        let place = &record.key[self.stored.folder.len()..];
        let (namespace, name) = place.split_once('/').unwrap_or(("-", place));
        let namespace = (namespace != "-").then_some(namespace);
        self.labels.matches(&view.labels) && self.fields.matches(namespace, name, &view)
    }
}

/// What a watch begins with.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    /// Shown as added.
    pub(crate) records: Vec<Arc<Record>>,
    /// Then a bookmark that says so, with this revision.
    pub(crate) end_bookmark: Option<u64>,
}

/// A watch in progress.
pub(crate) struct WatchStream {
    server: ApiServer,
    store: Store,
    watch: Watch,
    filter: Filter,
    form: Form,
    beginning: std::vec::IntoIter<Arc<Record>>,
    end_bookmark: Option<u64>,
    bookmarks: bool,
    /// The highest revision that the client knows of.
    told: u64,
    deadline: Pin<Box<Sleep>>,
    next_bookmark: Pin<Box<Sleep>>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

/// How a watch is to run.
pub(crate) struct WatchPlan {
    pub(crate) filter: Filter,
    pub(crate) form: Form,
    pub(crate) beginning: Beginning,
    pub(crate) bookmarks: bool,
    pub(crate) from_revision: u64,
    pub(crate) timeout: Duration,
    pub(crate) stopping: CancellationToken,
    /// The kind is served no more, or otherwise.
    pub(crate) retired: CancellationToken,
}

impl WatchStream {
    pub(crate) fn new(server: &ApiServer, watch: Watch, plan: WatchPlan) -> Self {
        let now = Instant::now();
        Self {
            server: server.clone(),
            store: server.store().clone(),
            watch,
            filter: plan.filter,
            form: plan.form,
            beginning: plan.beginning.records.into_iter(),
            end_bookmark: plan.beginning.end_bookmark,
            bookmarks: plan.bookmarks,
            told: plan.from_revision,
            deadline: Box::pin(tokio::time::sleep_until(now + plan.timeout)),
            next_bookmark: Box::pin(tokio::time::sleep_until(now + BOOKMARK_INTERVAL)),
            stopping: Box::pin(async move {
                tokio::select! {
                    () = plan.stopping.cancelled() => {}
                    () = plan.retired.cancelled() => {}
                }
            }),
            ended: false,
        }
    }

    /// The next lines; `None` at the end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut lines = BytesMut::new();
        self.begin(&mut lines);
        // Read before the watch is emptied: then everything up to it has been seen.
        let settled = self.store.published_revision();
        let drained = self.drain(context, &mut lines);
        if drained && !self.ended {
            // The runtime may have cut the task short: then not everything up to there has been seen.
            let settled = if self.watch.is_empty() { settled } else { self.told };
            self.timers(context, settled, &mut lines);
        }
        if !lines.is_empty() {
            return Poll::Ready(Some(lines.freeze()));
        }
        if self.ended { Poll::Ready(None) } else { Poll::Pending }
    }

    fn begin(&mut self, lines: &mut BytesMut) {
        while lines.len() < PIECE_BYTES {
            let Some(record) = self.beginning.next() else { break };
            self.told = self.told.max(record.revision);
            self.line(lines, "ADDED", &record.value);
        }
        if self.beginning.as_slice().is_empty()
            && let Some(revision) = self.end_bookmark.take()
        {
            self.bookmark(lines, revision, true);
        }
    }

    /// Takes what has come. Returns whether nothing is left for now, so that the task will be woken.
    fn drain(&mut self, context: &mut Context<'_>, lines: &mut BytesMut) -> bool {
        if !self.beginning.as_slice().is_empty() {
            return false;
        }
        while lines.len() < PIECE_BYTES {
            match self.watch.poll_next(context) {
                Poll::Ready(Ok(event)) => self.event(lines, &event),
                Poll::Ready(Err(WatchError::Lagged)) => {
                    // What is lost cannot be told any more: the client lists again.
                    let error = ApiError::expired("the watch was too slow and missed events; list again");
                    push_line(lines, "ERROR", error.to_status().to_string().as_bytes());
                    self.ended = true;
                    return true;
                }
                Poll::Ready(Err(WatchError::Closed)) => {
                    self.ended = true;
                    return true;
                }
                Poll::Pending => return true,
            }
        }
        false
    }

    fn timers(&mut self, context: &mut Context<'_>, settled: u64, lines: &mut BytesMut) {
        if self.next_bookmark.as_mut().poll(context).is_ready() {
            self.next_bookmark.as_mut().reset(Instant::now() + BOOKMARK_INTERVAL);
            // Polled again to be woken by the new time.
            let _not_yet = self.next_bookmark.as_mut().poll(context).is_ready();
            if self.bookmarks {
                self.bookmark(lines, settled, false);
            }
        }
        let over = self.deadline.as_mut().poll(context).is_ready();
        if over || self.stopping.as_mut().poll(context).is_ready() {
            if self.bookmarks {
                self.bookmark(lines, settled, false);
            }
            self.ended = true;
        }
    }

    fn event(&mut self, lines: &mut BytesMut, event: &Event) {
        let before = event.previous.as_ref().is_some_and(|previous| self.filter.matches(previous));
        let after = event.change == Change::Put && self.filter.matches(&event.record);
        self.told = self.told.max(event.revision());
        match (before, after) {
            (false, false) => {}
            (false, true) => self.line(lines, "ADDED", &event.record.value),
            (true, true) => self.line(lines, "MODIFIED", &event.record.value),
            (true, false) if event.change == Change::Delete => self.line(lines, "DELETED", &event.record.value),
            (true, false) => {
                // The object left the selector: its last matching state, as of now.
                let previous = event.previous.as_ref().expect("what matched before was there before");
                let object = self.filter.stored.with_revision(&previous.value, event.revision());
                self.line(lines, "DELETED", &object);
            }
        }
    }

    fn line(&self, lines: &mut BytesMut, kind: &str, stored: &[u8]) {
        let resource = &self.filter.resource;
        if self.form == Form::Json && !resource.converted {
            return push_line(lines, kind, stored);
        }
        let object = self.form.render(resource, &resource.decode(stored), self.server.now());
        push_line(lines, kind, object.to_string().as_bytes());
    }

    /// A line that only says how far the watch has come.
    fn bookmark(&mut self, lines: &mut BytesMut, revision: u64, initial_end: bool) {
        self.told = self.told.max(revision);
        let definition = &self.filter.resource.definition;
        let mut metadata = json!({ "resourceVersion": self.told.to_string() });
        if definition.strategy.origin == Origin::Builtin {
            metadata["creationTimestamp"] = Value::Null;
        }
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({ "kind": definition.kind, "apiVersion": definition.api_version(), "metadata": metadata });
        let object = match self.form {
            Form::Json | Form::Yaml => object,
            form => form.render(&self.filter.resource, &object, self.server.now()),
        };
        push_line(lines, "BOOKMARK", object.to_string().as_bytes());
    }
}

/// A watch that cannot begin: one line with the reason.
pub(crate) fn error_line(error: &ApiError) -> Bytes {
    let mut line = BytesMut::new();
    push_line(&mut line, "ERROR", error.to_status().to_string().as_bytes());
    line.freeze()
}

fn push_line(lines: &mut BytesMut, kind: &str, object: &[u8]) {
    lines.reserve(object.len() + 40);
    lines.put(&b"{\"type\":\""[..]);
    lines.put(kind.as_bytes());
    lines.put(&b"\",\"object\":"[..]);
    lines.put(object);
    lines.put(&b"}\n"[..]);
}
