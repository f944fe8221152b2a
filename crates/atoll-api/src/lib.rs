//! atoll-api

pub mod v1;
