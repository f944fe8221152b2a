//! atoll-apiserver
