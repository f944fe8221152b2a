//! atoll-gateway
