//! Leader election by a Lease, by the rules of client-go's `leaderelection`: who finds the lease free or not renewed
//! for its whole duration takes it; who cannot renew it in time has lost it. Times of other machines are not compared
//! with ours: what counts is how long ago the lease was last *seen* to change.

use std::time::{Duration, Instant};

use atoll_rt::ids::random_hex;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio_util::sync::CancellationToken;

/// How long a lease that is not renewed keeps others out.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long leads no more; shorter than the lease, so that there are never two.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the lease is looked at.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// One candidate.
pub(super) struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<Seen>,
}

/// A state of the lease, and when it was first seen.
struct Seen {
    spec: LeaseSpec,
    since: Instant,
}

/// What to do about a lease.
#[derive(Debug, PartialEq)]
enum Move {
    /// It is somebody else's.
    Wait,
    /// It is free: take it.
    Take,
    /// It is ours: renew it.
    Renew,
}

impl Election {
    pub(super) fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let identity = format!("{host}_{}", random_hex(8));
        Self { leases: Api::namespaced(client, namespace), name: name.to_owned(), identity, seen: None }
    }

    /// Returns once this candidate leads; `false` if it was stopped before.
    pub(super) async fn win(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.try_hold().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = atoll_stdx::chain(&error), "the lease could not be looked at"),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PERIOD) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    /// Renews the lease until it is lost. Cancel-safe: an answer that is not waited for changes nothing.
    pub(super) async fn until_lost(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            match tokio::time::timeout(RENEW_DEADLINE, self.try_hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = atoll_stdx::chain(&error), "the lease could not be renewed");
                }
                Err(_) => tracing::warn!("the lease could not be renewed in time"),
            }
            if renewed.elapsed() > RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Lets the next one lead at once.
    pub(super) async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        if let Err(error) = self.leases.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::warn!(error = atoll_stdx::chain(&error), "the lease could not be released");
        }
    }

    /// Takes or renews the lease if that is possible. Of two who try, the API server refuses one.
    async fn try_hold(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.held(None)),
            };
            return settled(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|seen| seen.spec != spec) {
            self.seen = Some(Seen { spec: spec.clone(), since: Instant::now() });
        }
        let unchanged_for = self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.since.elapsed());
        match next_move(&spec, &self.identity, unchanged_for) {
            Move::Wait => return Ok(false),
            Move::Take => lease.spec = Some(self.held(Some(&spec))),
            Move::Renew => lease.spec = Some(LeaseSpec { renew_time: Some(MicroTime(Timestamp::now())), ..spec }),
        }
        settled(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// The lease in our hands.
    fn held(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0).saturating_add(1));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn next_move(spec: &LeaseSpec, identity: &str, unchanged_for: Duration) -> Move {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Move::Renew;
    }
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    if holder.is_empty() || unchanged_for >= Duration::from_secs(seconds) { Move::Take } else { Move::Wait }
}

/// Whether a write of the lease was ours to make: losing a race is no error.
fn settled(answer: kube::Result<Lease>) -> kube::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_was_left() {
        let lease = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        for (holder, unchanged_s, expected) in [
            ("us", 0, Move::Renew),
            ("us", 100, Move::Renew),
            ("them", 0, Move::Wait),
            ("them", 14, Move::Wait),
            ("them", 15, Move::Take),
            ("", 0, Move::Take),
        ] {
            let found = next_move(&lease(holder), "us", Duration::from_secs(unchanged_s));
            assert_eq!(found, expected, "{holder} for {unchanged_s} s");
        }
        assert_eq!(next_move(&LeaseSpec::default(), "us", Duration::ZERO), Move::Take);
    }
}
