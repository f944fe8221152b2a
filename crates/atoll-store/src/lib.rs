//! atoll-store
