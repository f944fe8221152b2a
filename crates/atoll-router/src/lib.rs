//! The data plane: takes a client's HTTP request, finds the sandbox it names, and passes it on.
//!
//! A request names its sandbox in headers (`X-Sandbox-ID`, `-Namespace`, `-Port`, `-UID`); path and query go through
//! as they came. The sandbox is resolved by UID, and only an address that this sandbox owns is ever dialled.

pub mod config;
pub mod locator;
pub mod memory;
mod metrics;
pub mod rights;
mod router;

mod body;
mod dial;
mod exchange;
mod forward;
mod lease;
mod refusal;
mod request;
mod routes;
mod tokens;
mod tunnel;
mod watches;

pub use config::{PodNetwork, RouterConfig};
pub use locator::{GuestEndpoint, GuestLocator};
pub use metrics::MetricsSnapshot;
pub use router::{KnownCaller, ResponseBody, Router, RouterError, RouterService};
