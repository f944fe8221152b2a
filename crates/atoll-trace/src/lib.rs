//! atoll-trace
