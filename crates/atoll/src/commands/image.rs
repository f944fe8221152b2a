//! `atoll image`: what is imported, kept and removed. Works with and without a plane.

use std::process::ExitCode;

use atoll_image::{Bounds, Image, ImageName, Images, StoreError};
use atoll_sandbox::launcher::user_of_image;
use atoll_stdx::Hint;

use crate::args::{GlobalArgs, ImageCommand};
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::Printer;
use crate::state::StateDir;

/// Digits of an id that people see.
const SHORT_ID_DIGITS: usize = 12;

pub(crate) fn image(global: &GlobalArgs, command: ImageCommand, printer: &Printer) -> Outcome {
    require_root()?;
    let state = StateDir::new(&global.state_dir);
    let images = Images::of(state.root());
    match command {
        ImageCommand::Ls => list(&images, printer)?,
        ImageCommand::Import { path, name } => {
            let name = name.map(|name| ImageName::parse(&name)).transpose();
            let name = name.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
            state.make_root()?;
            let image = images.import(&path, name, &Bounds::default()).map_err(|error| failure(&error))?;
            printer.data(format!("{} {}", short(&image), named(&image)));
        }
        ImageCommand::Rm { names } => {
            for name in names {
                let gone =
                    images.remove(&name, |id| user_of_image(state.root(), id)).map_err(|error| failure(&error))?;
                printer.data(if gone {
                    format!("{name} removed")
                } else {
                    format!("{name} is no name of it any more")
                });
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The store is root's: it holds files of every owner.
fn require_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Exit::Machine, "images are kept by root").hint("run it with sudo"))
}

fn list(images: &Images, printer: &Printer) -> Result<(), Failure> {
    let all = images.list().map_err(|error| failure(&error))?;
    if printer.is_json() {
        printer.json(&all);
        return Ok(());
    }
    let row = |image: &Image| vec![short(image), named(image), format!("{:.1} MiB", image.bytes as f64 / 1_048_576.0)];
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    printer.table(&["ID", "NAMES", "SIZE"], &rows);
    Ok(())
}

fn short(image: &Image) -> String {
    image.id.chars().take(SHORT_ID_DIGITS).collect()
}

fn named(image: &Image) -> String {
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    if names.is_empty() { "<none>".to_owned() } else { names.join(", ") }
}

fn failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Unknown(_) => Exit::NotFound,
        StoreError::InUse { .. } => Exit::Refused,
        StoreError::Source(_) => Exit::Failure,
        StoreError::Files { .. } => Exit::State,
    };
    Failure::new(exit, atoll_stdx::chain(error)).hint_of(error.hint())
}
