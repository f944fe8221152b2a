//! What an idle guest costs.

use atoll_guest::protocol::ExecRequest;

use super::guest::{Guest, Setup, eventually};

/// Memory that the guest alone holds; shared pages of a build for development are not its cost.
const ANONYMOUS_KIB_MAX: u64 = 1_536;

fn anonymous_kib(guest: &Guest) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn an_idle_guest_is_small_and_becomes_so_again() {
    let Some(guest) = Setup::plain().start("an_idle_guest_is_small") else { return };
    guest.get("/");
    assert!(anonymous_kib(&guest) < ANONYMOUS_KIB_MAX, "{} KiB", anonymous_kib(&guest));
    for _ in 0..40 {
        // Each leaves its kept output behind until others push it out.
        guest.exec(ExecRequest::new(["head", "-c", "4000000", "/dev/zero"])).1.finish();
    }
    let kept_kib = 8 * 1024;
    assert!(anonymous_kib(&guest) < kept_kib + 2 * ANONYMOUS_KIB_MAX, "{} KiB", anonymous_kib(&guest));
    let threads = || std::fs::read_dir(format!("/proc/{}/task", guest.pid())).unwrap().count();
    eventually("its threads end", || (threads() <= 5).then_some(()));
}
