//! A Kubernetes-compatible API server as a tower service.
//!
//! Generic machinery: it knows kinds by their [`definitions`], never what one of them means.

mod accounts;
mod admission;
mod authn;
mod authz;
mod body;
mod cel;
mod collector;
mod crds;
mod discovery;
mod impersonation;
mod metrics;
mod namespaces;
mod node_proxy;
mod objects;
mod payload;
mod protobuf;
mod rbac;
#[cfg(test)]
mod recorded;
mod registry;
mod removal;
mod reply;
mod request;
mod reviews;
mod selectors;
mod server;
mod service;
mod status;
mod verbs;
mod watch;
mod writes;

pub mod apply;
pub mod conversion;
pub mod definitions;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod openapi;
pub mod patch;
pub mod schema;
pub mod table;

pub use authn::{Identity, TokenIdentity};
pub use body::ResponseBody;
pub use metrics::WriteCount;
pub use node_proxy::{NodeBody, NodeProxy, NodeRefusal, NodeRequest, PodStream};
pub use registry::RegistryError;
pub use server::{ApiServer, ApiServerConfig, BuildError};
pub use service::{ApiService, InProcessService};
pub use status::ApiError;
