//! Who may use which sandbox: the API server's SubjectAccessReview, remembered for a moment.
//!
//! What is asked is whether the caller may `get` the subresource `proxy` of the sandbox, as Kubernetes asks of those who
//! reach Pods and Services through it: who may only look at sandboxes does not get to run commands in them.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::memory::Memory;
use crate::refusal::Refusal;

const ENTRIES_MAX: usize = 4096;
const ALLOWED_FOR: Duration = Duration::from_secs(10);
const DENIED_FOR: Duration = Duration::from_secs(2);
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);
const REVIEWS_AT_ONCE_MAX: usize = 32;

const GROUP: &str = "agents.x-k8s.io";

/// Knows, or asks, who may use which sandbox.
pub(crate) struct Rights {
    reviews: Api<SubjectAccessReview>,
    at_once: Semaphore,
    known: Memory<Question, bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: String,
    uid: String,
    groups: Vec<String>,
    namespace: String,
    sandbox: String,
}

impl Rights {
    pub(crate) fn new(client: kube::Client) -> Self {
        let at_once = Semaphore::new(REVIEWS_AT_ONCE_MAX);
        Self { reviews: Api::all(client), at_once, known: Memory::new(ENTRIES_MAX) }
    }

    /// Whether somebody may use a sandbox.
    ///
    /// # Errors
    /// `NotAllowed`, or `RightsUnchecked` when the API server cannot tell.
    pub(crate) async fn check(&self, user: &UserInfo, namespace: &str, sandbox: &str) -> Result<(), Refusal> {
        let question = Question {
            user: user.username.clone().unwrap_or_default(),
            uid: user.uid.clone().unwrap_or_default(),
            groups: user.groups.clone().unwrap_or_default(),
            namespace: namespace.to_owned(),
            sandbox: sandbox.to_owned(),
        };
        let allowed = match self.known.get(&question, Instant::now()) {
            Some(allowed) => allowed,
            None => {
                let allowed = self.ask(user, &question).await?;
                let lifetime = if allowed { ALLOWED_FOR } else { DENIED_FOR };
                self.known.put(question, allowed, Instant::now() + lifetime);
                allowed
            }
        };
        if allowed { Ok(()) } else { Err(Refusal::NotAllowed { id: sandbox.to_owned() }) }
    }

    async fn ask(&self, user: &UserInfo, question: &Question) -> Result<bool, Refusal> {
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some("get".to_owned()),
                    group: Some(GROUP.to_owned()),
                    resource: Some("sandboxes".to_owned()),
                    subresource: Some("proxy".to_owned()),
                    namespace: Some(question.namespace.clone()),
                    name: Some(question.sandbox.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let parameters = PostParams::default();
        match tokio::time::timeout(REVIEW_TIMEOUT, self.reviews.create(&parameters, &review)).await {
            Ok(Ok(answer)) => Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true))),
            Ok(Err(error)) => {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "somebody's rights could not be reviewed");
                Err(Refusal::RightsUnchecked)
            }
            Err(_elapsed) => {
                tracing::warn!("somebody's rights could not be reviewed in time");
                Err(Refusal::RightsUnchecked)
            }
        }
    }
}
