//! The controller against a real API server; what it enforces and tells the proxy is kept instead.

#[path = "it/controller.rs"]
mod controller;
