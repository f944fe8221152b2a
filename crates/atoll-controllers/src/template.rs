//! The SandboxTemplate controller: keeps each template's label and NetworkPolicy.

mod apply;
mod plan;
mod policy;

pub(crate) use apply::TemplateController;
