//! atoll-engine
