//! The gateway over real sockets: callers in front, upstreams behind.

#[path = "it/gateway.rs"]
mod gateway;
