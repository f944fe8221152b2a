//! All of these tests once more, on a plane as people start it: its API server over TLS, its controllers, and its node,
//! which runs each Pod in a sandbox.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::it::plane::cluster;

/// What can not be so there, and why.
const ELSEWHERE: [(&str, &str); 11] = [
    ("it::claims::claims_carry_their_times_where_that_is_wanted", "the plane's controllers have their own settings"),
    ("it::claims::what_a_pool_did_not_make_is_taken_away", "the plane's controllers have their own settings"),
    (
        "it::contract::a_finished_claim_may_go_in_the_foreground",
        "only a node that pretends can be told when a Pod ends",
    ),
    ("it::metrics::", "the plane's controllers are another process"),
    ("it::pools::controllers_that_start_again_find_their_members", "the plane starts its controllers itself"),
    ("it::pools::members_that_never_start_are_replaced", "the plane's controllers have their own settings"),
    ("it::scheduling::", "it is about a node of another size"),
    ("it::writes::a_warm_claim_costs_six_writes", "`atoll bench claim` counts them there"),
    ("it::writes::what_is_settled_costs_nothing", "`atoll bench claim` counts them there"),
    ("it::table::", "it is about no plane"),
    ("it::real_node::", "it is this one"),
];

/// A plane that stops when dropped.
struct WholePlane {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl WholePlane {
    fn start(program: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o711);
        let directory = tempfile::Builder::new().prefix("atoll-contract-").permissions(open).tempdir();
        let plane = Self { program: program.to_owned(), directory: directory.expect("a temporary directory") };
        let ports = ["--api-port=0", "--router-port=0", "--platform-port=0", "--policy-port=0"];
        assert!(plane.run(&[&["up", "--detach"], &ports[..]].concat()), "the plane starts");
        plane
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn run(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(&self.program);
        let quiet = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.env("ATOLL_STATE_DIR", self.state()).status().expect("the program runs").success()
    }
}

impl Drop for WholePlane {
    fn drop(&mut self) {
        let stopped = self.run(&["down"]);
        assert!(stopped || std::thread::panicking(), "the plane stops");
    }
}

/// The program of this build: tests lie one folder below it.
fn program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.parent()?.parent()?.join("atoll");
    program.exists().then_some(program)
}

/// Why it can not be done here.
fn obstacle() -> Option<&'static str> {
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")));
    match (is_root, program()) {
        (false, _) => Some("making sandboxes needs root"),
        (true, None) => Some("the program itself has not been built"),
        (true, Some(_)) => None,
    }
}

#[test]
fn the_contract_holds_with_a_node_that_runs_pods() {
    let test = "the_contract_holds_with_a_node_that_runs_pods";
    if let Some(reason) = obstacle() {
        println!("SKIPPED {test}: {reason}");
        return;
    }
    let plane = WholePlane::start(&program().expect("it was there just now"));
    let mut tests = Command::new(std::env::current_exe().expect("this program has a path"));
    tests.env(cluster::ADMINISTRATOR, plane.state().join("kubeconfig")).args(["--test-threads=1", "--show-output"]);
    for (name, reason) in ELSEWHERE {
        println!("on a whole plane not {name}: {reason}");
        tests.args(["--skip", name]);
    }
    let output = tests.stdin(Stdio::null()).output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().find(|line| line.starts_with("test result:")).unwrap_or_default();
    println!("on a whole plane, {summary}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().filter(|line| line.ends_with("... ok")).count() > 35, "they were run: {text}");
}
