//! Writes the schemas that the API server embeds and the CustomResourceDefinitions of the sandbox kinds.
//!
//! Usage: schemagen DIRECTORY
//!
//! Makes in DIRECTORY: `core.json`, `sandbox.json` and `crds/*.yaml`. Types come from `k8s-openapi`; what its schemas
//! lack (which lists are maps, which values are defaults) comes from the tables of this program.

mod core;
mod crd;
mod defaults;
mod generator;
mod newer;
mod output;
mod presence;
mod sandbox;
mod topology;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: schemagen DIRECTORY");
        return ExitCode::from(2);
    };
    match write_all(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("schemagen: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &std::path::Path) -> std::io::Result<()> {
    let crds = directory.join("crds");
    std::fs::create_dir_all(&crds)?;
    output::write_document(&directory.join("core.json"), &core::document())?;
    let sandbox = sandbox::document();
    output::write_document(&directory.join("sandbox.json"), &sandbox)?;
    for manifest in crd::manifests(&sandbox) {
        output::write_manifest(&crds, &manifest)?;
    }
    Ok(())
}
