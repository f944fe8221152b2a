//! `atoll run`: a fresh sandbox, one command, its exit code.

pub(crate) mod volume;

use std::process::ExitCode;

use atoll_api::manifests;
use kube::api::{Api, DeleteParams, PostParams};

use super::block_on;
use super::sandbox::{create_sandbox, let_idle, pod_spec, wait_until_ready};
use super::session::{self, SessionOptions, parse_env};
use crate::args::{GlobalArgs, ModelArgs, RunArgs};
use crate::failure::{Exit, Outcome};
use crate::plane::Plane;
use crate::printer::Printer;
use volume::Shares;

pub(crate) fn run(global: &GlobalArgs, args: RunArgs, printer: &Printer) -> Outcome {
    run_inner(global, args, printer).map_err(|failure| failure.with_exit(Exit::RunCommand))
}

fn run_inner(global: &GlobalArgs, args: RunArgs, printer: &Printer) -> Outcome {
    let env = parse_env(&args.env)?;
    let volumes = args.volume.iter().map(|volume| volume::Request::parse(volume)).collect::<Result<Vec<_>, _>>()?;
    let plane = Plane::find_or_start(global, &ModelArgs::default(), printer)?;
    block_on(async {
        let client = plane.kube().await?;
        let api: Api<atoll_api::Sandbox> = Api::namespaced(client.clone(), &args.namespace);
        let name = args.name.clone().unwrap_or_else(|| format!("run-{}", atoll_rt::ids::random_hex(4)));
        let mut pod = pod_spec(&args.image, args.tier);
        let state_dir = plane.state.root();
        if !volumes.is_empty() {
            volume::sweep(state_dir, &client, printer).await;
        }
        let shares = Shares::grant(state_dir, &format!("{}/{name}", args.namespace), volumes)?;
        shares.add_to(&mut pod);
        let mut object = manifests::sandbox(&args.namespace, &name, pod);
        manifests::set_created_by(&mut object.metadata, "atoll-run");
        let_idle(&mut object);
        let created = create_sandbox(&api, &object, &PostParams::default()).await;
        let created = created.inspect_err(|_failure| shares.revoke())?;
        let outcome = async {
            wait_until_ready(&client, &created).await?;
            let sandbox = plane.sandbox(&args.namespace, &name);
            let options =
                SessionOptions { interactive: args.interactive, tty: args.tty, env, workdir: args.workdir.clone() };
            session::run(&sandbox, args.command, &options, printer).await
        }
        .await;
        if args.rm || outcome.is_err() {
            shares.revoke();
        }
        conclude(&api, &name, args.rm, outcome, printer).await
    })
}

/// A sandbox that never ran its command is of no use to anyone: it goes even without `--rm`.
async fn conclude(
    api: &Api<atoll_api::Sandbox>,
    name: &str,
    remove: bool,
    outcome: Outcome,
    printer: &Printer,
) -> Outcome {
    if remove || outcome.is_err() {
        // The command's own outcome is what matters; a sandbox that is gone already is gone.
        if let Err(error) = api.delete(name, &DeleteParams::background()).await {
            printer.note(format!("sandbox {name} could not be removed: {error}"));
        }
    } else {
        printer.note(format!("sandbox {name} is kept: `atoll sandbox exec {name} -- …`, `atoll sandbox rm {name}`"));
    }
    outcome.map(|code: ExitCode| code)
}
