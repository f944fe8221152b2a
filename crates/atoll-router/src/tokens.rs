//! Who asks: bearer tokens, verified by the API server's TokenReview and remembered for a moment.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::memory::Memory;
use crate::refusal::Refusal;

const ENTRIES_MAX: usize = 2048;
const ACCEPTED_FOR: Duration = Duration::from_secs(30);
const REFUSED_FOR: Duration = Duration::from_secs(5);
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);
const REVIEWS_AT_ONCE_MAX: usize = 32;

type TokenDigest = [u8; 32];

/// Verifies tokens.
pub(crate) struct Tokens {
    reviews: Api<TokenReview>,
    at_once: Semaphore,
    /// Whose a token is, by its digest; nobody's: `None`.
    known: Memory<TokenDigest, Option<Arc<UserInfo>>>,
}

impl Tokens {
    pub(crate) fn new(client: kube::Client) -> Self {
        let at_once = Semaphore::new(REVIEWS_AT_ONCE_MAX);
        Self { reviews: Api::all(client), at_once, known: Memory::new(ENTRIES_MAX) }
    }

    /// Whose the token is.
    ///
    /// # Errors
    /// `TokenInvalid`, or `TokenUnchecked` when the API server cannot tell.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<UserInfo>, Refusal> {
        let digest: TokenDigest = Sha256::digest(token.as_bytes()).into();
        let user = match self.known.get(&digest, Instant::now()) {
            Some(user) => user,
            None => {
                let user = self.review(token).await?;
                let lifetime = if user.is_some() { ACCEPTED_FOR } else { REFUSED_FOR };
                self.known.put(digest, user.clone(), Instant::now() + lifetime);
                user
            }
        };
        user.ok_or(Refusal::TokenInvalid)
    }

    async fn review(&self, token: &str) -> Result<Option<Arc<UserInfo>>, Refusal> {
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        let asked = self.reviews.create(&parameters, &review);
        match tokio::time::timeout(REVIEW_TIMEOUT, asked).await {
            Ok(Ok(answer)) => {
                let accepted = answer.status.filter(|status| status.authenticated == Some(true));
                Ok(accepted.map(|status| Arc::new(status.user.unwrap_or_default())))
            }
            Ok(Err(error)) => {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "a token could not be reviewed");
                Err(Refusal::TokenUnchecked)
            }
            Err(_elapsed) => {
                tracing::warn!("a token could not be reviewed in time");
                Err(Refusal::TokenUnchecked)
            }
        }
    }
}
