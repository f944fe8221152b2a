//! atoll-guest
