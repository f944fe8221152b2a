//! The orchestrator with the real gateway, the scripted upstream, the real journal, and benches in a directory.

mod it {
    mod approvals;
    mod audit;
    mod bench;
    mod crash;
    mod examples;
    mod flow;
    mod forge;
    mod mcp;
    mod people;
    mod policy;
    mod pulls;
    mod refusals;
    mod team;
    mod undo;
    mod world;
}
