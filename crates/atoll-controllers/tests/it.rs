//! The controllers against the embedded API server, in one process, with a node that only pretends to run Pods;
//! on a cluster; and on a whole plane, whose node runs them.

mod it {
    mod claims;
    mod collisions;
    mod contract;
    mod lifecycle;
    mod metrics;
    mod node;
    mod plane;
    mod pools;
    mod real_node;
    mod sandboxes;
    mod scheduling;
    mod table;
    mod templates;
    mod writes;
}
