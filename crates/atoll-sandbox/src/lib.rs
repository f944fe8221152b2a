//! atoll-sandbox
