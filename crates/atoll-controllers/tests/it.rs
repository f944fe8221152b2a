//! The controllers against the embedded API server, in one process, with a node that only pretends to run Pods.

mod it {
    mod claims;
    mod collisions;
    mod contract;
    mod lifecycle;
    mod metrics;
    mod node;
    mod plane;
    mod pools;
    mod sandboxes;
    mod scheduling;
    mod table;
    mod templates;
    mod writes;
}
