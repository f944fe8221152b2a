//! `atoll up`, `down`, `status`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube::api::{Api, ListParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use atoll_api::sandbox::Sandbox;

use super::trace::duration;
use crate::args::{DownArgs, GlobalArgs, UpArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::{Plane, start_in_background};
use crate::printer::Printer;
use crate::serve;
use crate::state::{PlaneInfo, StateDir};

/// How long a plane may take to stop its sandboxes.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) fn up(global: &GlobalArgs, args: &UpArgs, printer: &Printer) -> Outcome {
    if !args.detach {
        return serve::serve(global, args, printer);
    }
    let state = StateDir::new(&global.state_dir);
    if let Some(info) = state.running()? {
        printer.note("a plane is running already");
        tell(&state, &info, printer);
        return Ok(ExitCode::SUCCESS);
    }
    let info = start_in_background(&state, args)?;
    tell(&state, &info, printer);
    Ok(ExitCode::SUCCESS)
}

/// Prints where a plane answers.
pub(crate) fn tell(state: &StateDir, info: &PlaneInfo, printer: &Printer) {
    if printer.is_json() {
        printer.json(&serde_json::json!({
            "pid": info.pid,
            "version": info.version,
            "api_url": info.api_url,
            "router_url": info.router_url,
            "platform_url": info.platform_url,
            "kubeconfig": state.kubeconfig(),
            "model": info.model,
        }));
        return;
    }
    printer.data(format!("Kubernetes API   {}", info.api_url));
    printer.data(format!("router           {}", info.router_url));
    printer.data(format!("platform API     {}", info.platform_url));
    printer.data(format!("model            {}", info.model));
    printer.data(format!("kubeconfig       {}", state.kubeconfig().display()));
    printer.data(format!("try              kubectl --kubeconfig {} get sandboxes -A", state.kubeconfig().display()));
}

pub(crate) fn down(global: &GlobalArgs, args: &DownArgs, printer: &Printer) -> Outcome {
    let state = StateDir::new(&global.state_dir);
    let Some(info) = state.running()? else {
        printer.note(format!("no plane runs on {}", state.root().display()));
        return Ok(ExitCode::SUCCESS);
    };
    stop(&state, &info, args.keep_sandboxes)?;
    printer.note("the plane has stopped");
    Ok(ExitCode::SUCCESS)
}

/// Tells a plane to stop, and waits until it has.
pub(crate) fn stop(state: &StateDir, info: &PlaneInfo, keep_sandboxes: bool) -> Result<(), Failure> {
    // SIGUSR1 is the stop that leaves sandboxes running, for an upgrade.
    let signal = if keep_sandboxes { Signal::SIGUSR1 } else { Signal::SIGTERM };
    let pid = Pid::from_raw(i32::try_from(info.pid).unwrap_or(0).max(2));
    kill(pid, signal).map_err(|error| {
        Failure::because(Exit::Failure, format!("cannot stop process {pid}"), &error).hint("run as root")
    })?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while state.is_locked() {
        if Instant::now() > deadline {
            return Err(Failure::new(Exit::Failure, format!("the plane (process {pid}) does not stop"))
                .hint(format!("see {}", state.log_path().display())));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

pub(crate) async fn status(global: &GlobalArgs, printer: &Printer) -> Outcome {
    let plane = Plane::find(global)?;
    let sandboxes: Api<Sandbox> = Api::all(plane.kube().await?);
    let count = sandboxes
        .list(&ListParams::default())
        .await
        .map_err(|error| Failure::because(Exit::Unreachable, "the Kubernetes API does not answer", &error))?
        .items
        .len();
    tell(&plane.state, &plane.info, printer);
    if !printer.is_json() {
        let up = atoll_rt::clock::now_unix_ms().saturating_sub(plane.info.started_at_ms);
        printer.data(format!("sandboxes        {count}"));
        printer.data(format!("up               {} (process {})", duration(up), plane.info.pid));
    }
    Ok(ExitCode::SUCCESS)
}
