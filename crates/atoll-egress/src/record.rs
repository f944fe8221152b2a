//! What is written down of every connection.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::snapshot::SandboxPolicy;
use crate::verdict::{self, Refusal};

/// One connection, request or question of a sandbox: when it is allowed once when it begins and once when it ends, and
/// when it is refused once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRecord {
    /// The same for beginning and end.
    pub id: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Where in its life.
    pub stage: Stage,
    /// The Pod's UID.
    pub uid: String,
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod's name.
    pub sandbox: String,
    /// The run of agents that the sandbox works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// What it speaks, as far as it is known.
    pub protocol: Spoken,
    /// The name that was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address that was dialled, or would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The port.
    pub port: u16,
    /// What allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it was refused, or ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The one command that would allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_with: Option<String>,
    /// Bytes from the sandbox.
    pub bytes_sent: u64,
    /// Bytes to the sandbox.
    pub bytes_received: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Where in its life a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Allowed, and begun.
    Opened,
    /// Ended.
    Closed,
    /// Not allowed.
    Refused,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Spoken {
    /// Unknown, or anything.
    Tcp,
    /// TLS that is passed on unseen.
    Tls,
    /// HTTP in the clear.
    Http,
    /// HTTP within TLS that ends at the proxy.
    Https,
    /// A question to the resolver.
    Dns,
}

impl ConnectionRecord {
    /// The record of something that was refused.
    #[must_use]
    pub fn refused(policy: &SandboxPolicy, about: &About, refusal: &Refusal) -> Self {
        Self {
            stage: Stage::Refused,
            reason: Some(refusal.to_string()),
            allow_with: verdict::command(policy, about.port, refusal),
            ..about.record(policy)
        }
    }
}

/// What a record is about.
#[derive(Debug, Clone)]
pub struct About {
    /// See [`ConnectionRecord::id`].
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// What is spoken.
    pub protocol: Spoken,
    /// The name.
    pub name: Option<String>,
    /// The address.
    pub address: Option<Ipv4Addr>,
    /// The port.
    pub port: u16,
}

impl About {
    /// The record of its beginning.
    #[must_use]
    pub fn record(&self, policy: &SandboxPolicy) -> ConnectionRecord {
        ConnectionRecord {
            id: self.id,
            at_unix_ms: self.at_unix_ms,
            stage: Stage::Opened,
            uid: policy.uid.clone(),
            namespace: policy.namespace.clone(),
            sandbox: policy.name.clone(),
            run: policy.run.clone(),
            protocol: self.protocol,
            name: self.name.clone(),
            address: self.address,
            port: self.port,
            rule: None,
            reason: None,
            allow_with: None,
            bytes_sent: 0,
            bytes_received: 0,
            duration_ms: 0,
        }
    }
}
