//! atoll-rt
