//! atoll-stdx
