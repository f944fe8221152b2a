//! atoll-client
