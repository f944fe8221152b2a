//! atoll-controllers
