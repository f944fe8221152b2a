use std::collections::BTreeSet;

use super::*;

fn config(state_dir: &Path) -> LauncherConfig {
    LauncherConfig {
        state_dir: state_dir.to_owned(),
        guest_binary: state_dir.join("bin"),
        plane_uid: 1,
        plane_gid: 1,
        runsc: None,
        make_ahead: true,
    }
}

#[test]
fn every_finding_has_evidence_and_what_is_wrong_has_a_remedy() {
    let missing = Path::new("/nonexistent/state");
    let mut findings = probe(&config(missing));
    findings.extend([
        root(1000),
        privileges(Ok(CapabilitySet::empty())),
        privileges(Err(Errno::PERM)),
        kernel_version("5.4.0"),
        cgroups(&Layout::default()),
        seccomp(""),
        idmapped_mounts("4.19.0", missing),
        disk_space(Path::new("")),
        limits_privilege(Ok(CapabilitySet::empty())),
    ]);
    for finding in findings {
        assert!(!finding.evidence.is_empty(), "{finding:?}");
        assert_eq!(finding.ok, finding.remedy.is_none(), "{finding:?}");
    }
}

#[test]
fn names_are_unique() {
    let findings = probe(&config(Path::new("/")));
    let names: BTreeSet<&str> = findings.iter().map(|finding| finding.name.as_str()).collect();
    assert_eq!(names.len(), findings.len());
}

#[test]
fn a_tier_that_the_launcher_refuses_is_not_said_to_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let runsc = directory.path().join("runsc");
    let config = LauncherConfig { runsc: Some(runsc.clone()), ..config(directory.path()) };
    assert!(gvisor(&config).evidence.contains("not an executable"));
    std::os::unix::fs::symlink("/bin/false", &runsc).unwrap();
    let finding = gvisor(&config);
    let expected = if rustix::process::geteuid().is_root() { "runs nothing here" } else { "it was not tried" };
    assert!(finding.evidence.contains(expected), "{finding:?}");
    assert!(!finding.ok);
}

#[test]
fn kernels_are_compared_by_number() {
    assert_eq!(version_of("6.8.0-45-generic"), Some((6, 8)));
    assert_eq!(version_of("5.12-rc3"), Some((5, 12)));
    assert_eq!(version_of("6"), None);
    for (release, ok) in
        [("5.4.0", false), ("5.13.9", false), ("5.14.0", true), ("5.9", false), ("6.0.1", true), ("", false)]
    {
        assert_eq!(kernel_version(release).ok, ok, "{release}");
    }
}

#[test]
fn without_a_privilege_the_finding_names_it() {
    let finding = privileges(Ok(CapabilitySet::SYS_ADMIN));
    assert!(!finding.ok && finding.evidence.contains("CAP_NET_ADMIN") && !finding.evidence.contains("CAP_SYS_ADMIN"));
    assert!(privileges(Ok(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN)).ok);
}

#[test]
fn missing_controllers_are_named() {
    let finding = cgroups(&Layout::default());
    assert!(!finding.ok && finding.evidence.starts_with("none mounted"));
    assert!(finding.remedy.is_some_and(|remedy| ["memory", "pids", "cpu"].iter().all(|name| remedy.contains(name))));
}

#[test]
fn filters_need_the_action_that_refuses() {
    assert!(seccomp("kill_process errno allow").ok);
    assert!(!seccomp("kill_process allow").ok);
}

#[test]
fn space_is_asked_for_where_the_state_will_be() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(nearest_existing(&directory.path().join("a/b")), Some(directory.path()));
    assert!(disk_space(&directory.path().join("a/b")).evidence.contains(&*directory.path().to_string_lossy()));
}
