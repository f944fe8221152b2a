//! atoll-orchestrator
