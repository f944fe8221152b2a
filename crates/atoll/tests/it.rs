//! The whole binary, as a person uses it: real processes, real sandboxes, real ports.

#[path = "it/agents.rs"]
mod agents;
#[path = "it/backup.rs"]
mod backup;
#[path = "it/bad_input.rs"]
mod bad_input;
#[path = "it/commands.rs"]
mod commands;
#[path = "it/controllers.rs"]
mod controllers;
#[path = "it/demo.rs"]
mod demo;
#[path = "it/egress.rs"]
mod egress;
#[path = "it/images.rs"]
mod images;
#[path = "it/kubectl.rs"]
mod kubectl;
#[path = "it/lifecycle.rs"]
mod lifecycle;
#[path = "it/pods.rs"]
mod pods;
#[path = "it/policies.rs"]
mod policies;
#[path = "it/sdk.rs"]
mod sdk;
#[path = "it/streams.rs"]
mod streams;
#[path = "it/terminal.rs"]
mod terminal;
#[path = "it/tiers.rs"]
mod tiers;
#[path = "it/world.rs"]
mod world;
