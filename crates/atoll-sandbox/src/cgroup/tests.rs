use super::*;

/// A tree of plain files that looks like version 2 with controllers, which the test machines lack.
fn pure_tree() -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.subtree_control"), "").unwrap();
    let mut layout = Layout { unified: Some(root.path().to_owned()), ..Layout::default() };
    layout.set_unified_controllers("cpu memory pids");
    fs::create_dir(root.path().join("plane")).unwrap();
    fs::write(root.path().join("plane/cgroup.subtree_control"), "").unwrap();
    let cgroups = Cgroups::new(layout, "plane");
    (root, cgroups)
}

fn with_files(directory: &Path, files: &[&str]) {
    fs::create_dir_all(directory).unwrap();
    for file in files {
        fs::write(directory.join(file), "").unwrap();
    }
}

#[test]
fn version_2_gets_its_limits_in_one_group() {
    let (root, cgroups) = pure_tree();
    cgroups.prepare().unwrap();
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!(read("cgroup.subtree_control"), "+memory +pids +cpu");
    assert_eq!(read("plane/cgroup.subtree_control"), "+memory +pids +cpu");

    with_files(&root.path().join("plane/a"), &["memory.max", "memory.swap.max", "pids.max", "cpu.max"]);
    let resources = Resources { memory_bytes: Some(1 << 20), pids_max: None, cpu_millis: Some(1500), nofile: None };
    let groups = cgroups.create("a", &resources).unwrap();
    assert_eq!(groups.directories(), vec![root.path().join("plane/a")]);
    assert_eq!(read("plane/a/memory.max"), "1048576");
    assert_eq!(read("plane/a/memory.swap.max"), "0");
    assert_eq!(read("plane/a/pids.max"), "1024");
    assert_eq!(read("plane/a/cpu.max"), "150000 100000");
}

#[test]
fn a_limit_without_a_file_is_refused() {
    let (root, cgroups) = pure_tree();
    with_files(&root.path().join("plane/a"), &["pids.max"]);
    let resources = Resources { cpu_millis: Some(100), ..Resources::default() };
    assert!(matches!(cgroups.create("a", &resources), Err(CgroupError::NoLimit(_))));
    let resources = Resources { memory_bytes: Some(1), ..Resources::default() };
    assert!(matches!(cgroups.create("a", &resources), Err(CgroupError::Write { .. })));
}

#[test]
fn a_missing_controller_is_refused_by_name() {
    let (_root, mut cgroups) = pure_tree();
    cgroups.layout.set_unified_controllers("cpu memory");
    let error = cgroups.prepare().unwrap_err();
    assert_eq!(error.to_string(), "the pids controller of control groups is not available");
    assert!(error.hint().unwrap().contains("mount it"));
}

#[test]
fn counters_of_version_2_are_read() {
    let (root, cgroups) = pure_tree();
    let directory = root.path().join("plane/a");
    with_files(&directory, &[]);
    fs::write(directory.join("memory.current"), "4096\n").unwrap();
    fs::write(directory.join("pids.current"), "3\n").unwrap();
    fs::write(directory.join("cpu.stat"), "usage_usec 77\nuser_usec 50\n").unwrap();
    let stats = cgroups.groups("a").stats().unwrap();
    assert_eq!(stats, SandboxStats { memory_bytes: 4096, cpu_usage_us: 77, pids: 3 });
}
