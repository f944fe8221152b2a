//! Who asks: bearer tokens, verified by the API server's TokenReview and remembered for a moment.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

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
    known: Mutex<Known>,
}

/// Verdicts by the token's digest, the oldest first to go.
#[derive(Default)]
struct Known {
    verdicts: HashMap<TokenDigest, Verdict>,
    order: VecDeque<TokenDigest>,
}

#[derive(Clone, Copy)]
struct Verdict {
    accepted: bool,
    until: Instant,
}

impl Tokens {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { reviews: Api::all(client), at_once: Semaphore::new(REVIEWS_AT_ONCE_MAX), known: Mutex::default() }
    }

    /// Whether the token is somebody's.
    ///
    /// # Errors
    /// `TokenInvalid`, or `TokenUnchecked` when the API server cannot tell.
    pub(crate) async fn verify(&self, token: &str) -> Result<(), Refusal> {
        let digest: TokenDigest = Sha256::digest(token.as_bytes()).into();
        let known = self.known.lock().expect("no holder of this lock panics").get(&digest, Instant::now());
        let accepted = match known {
            Some(accepted) => accepted,
            None => {
                let accepted = self.review(token).await?;
                let lifetime = if accepted { ACCEPTED_FOR } else { REFUSED_FOR };
                let verdict = Verdict { accepted, until: Instant::now() + lifetime };
                self.known.lock().expect("no holder of this lock panics").put(digest, verdict);
                accepted
            }
        };
        if accepted { Ok(()) } else { Err(Refusal::TokenInvalid) }
    }

    async fn review(&self, token: &str) -> Result<bool, Refusal> {
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        let asked = self.reviews.create(&parameters, &review);
        match tokio::time::timeout(REVIEW_TIMEOUT, asked).await {
            Ok(Ok(answer)) => Ok(answer.status.and_then(|status| status.authenticated).unwrap_or(false)),
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

impl Known {
    fn get(&mut self, digest: &TokenDigest, now: Instant) -> Option<bool> {
        let verdict = self.verdicts.get(digest)?;
        if verdict.until <= now {
            return None;
        }
        Some(verdict.accepted)
    }

    fn put(&mut self, digest: TokenDigest, verdict: Verdict) {
        if self.verdicts.insert(digest, verdict).is_some() {
            self.order.retain(|known| *known != digest);
        }
        self.order.push_back(digest);
        while self.order.len() > ENTRIES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.verdicts.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn verdicts_expire_and_are_bounded() {
        let mut known = Known::default();
        let now = Instant::now();
        let verdict = Verdict { accepted: true, until: now + ACCEPTED_FOR };
        known.put([1; 32], verdict);
        assert_eq!(known.get(&[1; 32], now), Some(true));
        assert_eq!(known.get(&[1; 32], now + ACCEPTED_FOR), None);
        for n in 0..ENTRIES_MAX {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            known.put(digest, verdict);
        }
        assert_eq!(known.get(&[1; 32], now), None);
        assert_eq!((known.order.len(), known.verdicts.len()), (ENTRIES_MAX, ENTRIES_MAX));
    }
}
