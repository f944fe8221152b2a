//! A Kubernetes-compatible API server as a tower service.
//!
//! Generic machinery: it knows kinds by their [`definitions`], never what one of them means.

pub mod apply;
pub mod definitions;
pub mod openapi;
pub mod patch;
pub mod schema;
pub mod table;
