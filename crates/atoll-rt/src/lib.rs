//! Running things: named tasks and their drain, listeners, TLS, telemetry, the real clock and real randomness.

pub mod clock;
pub mod ids;
pub mod listen;
pub mod task;
pub mod telemetry;
pub mod tls;

pub use task::{TaskGroup, TaskHandle};
pub use tokio_util::sync::CancellationToken;
