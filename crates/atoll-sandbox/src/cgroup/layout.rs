//! Which control-group trees a machine has, read from its mount table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A kind of resource that the kernel can count and limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Processor time.
    Cpu,
    /// Stopping and continuing; version 2 has it without a controller.
    Freezer,
}

impl Controller {
    /// Those without which no sandbox is started.
    pub const NEEDED: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];
    const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Freezer];

    /// The kernel's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Freezer => "freezer",
        }
    }
}

/// A generation of the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One tree for each controller.
    V1,
    /// One tree for all.
    V2,
}

/// The trees of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Mount point of the version 1 tree of each controller.
    pub(super) version_1: BTreeMap<Controller, PathBuf>,
    /// Mount point of the version 2 tree.
    pub unified: Option<PathBuf>,
    /// Controllers of the version 2 tree.
    pub(super) version_2: Vec<Controller>,
}

impl Layout {
    /// This machine's.
    #[must_use]
    pub fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut layout = Self::parse(&mounts);
        if let Some(unified) = &layout.unified {
            let names = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
            layout.set_unified_controllers(&names);
        }
        layout
    }

    fn parse(mounts: &str) -> Self {
        let mut layout = Self::default();
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(mount_point) = before.split(' ').nth(4) else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next().unwrap_or_default(), after.nth(1).unwrap_or_default());
            match kind {
                "cgroup2" if layout.unified.is_none() => layout.unified = Some(PathBuf::from(mount_point)),
                "cgroup" => {
                    for controller in Controller::ALL {
                        if options.split(',').any(|option| option == controller.name()) {
                            layout.version_1.entry(controller).or_insert_with(|| PathBuf::from(mount_point));
                        }
                    }
                }
                _ => {}
            }
        }
        layout
    }

    pub(super) fn set_unified_controllers(&mut self, names: &str) {
        self.version_2 = Controller::ALL
            .into_iter()
            .filter(|controller| names.split_whitespace().any(|name| name == controller.name()))
            .collect();
    }

    /// The tree that has a controller: version 2 where it is there.
    #[must_use]
    pub fn find(&self, controller: Controller) -> Option<(Version, &Path)> {
        if self.version_2.contains(&controller) {
            return self.unified.as_deref().map(|root| (Version::V2, root));
        }
        self.version_1.get(&controller).map(|root| (Version::V1, root.as_path()))
    }

    /// Every tree that sandboxes have groups in, once.
    #[must_use]
    pub fn roots(&self) -> Vec<&Path> {
        let needed = Controller::NEEDED.into_iter().filter_map(|controller| self.find(controller));
        let mut roots: Vec<&Path> = needed.map(|(_, root)| root).collect();
        match &self.unified {
            Some(unified) => roots.push(unified),
            None => roots.extend(self.version_1.get(&Controller::Freezer).map(PathBuf::as_path)),
        }
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        let part = |controller: Controller| match self.find(controller) {
            Some((Version::V1, root)) => format!("{} on version 1 at {}", controller.name(), root.display()),
            Some((Version::V2, root)) => format!("{} on version 2 at {}", controller.name(), root.display()),
            None => format!("no {}", controller.name()),
        };
        let mut parts: Vec<String> = Controller::NEEDED.into_iter().map(part).collect();
        parts.push(match &self.unified {
            Some(root) => format!("freezing and killing on version 2 at {}", root.display()),
            None => part(Controller::Freezer),
        });
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime shared:5 - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const PURE: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_hybrid_machine_limits_by_version_1_and_freezes_by_version_2() {
        let mut layout = Layout::parse(HYBRID);
        layout.set_unified_controllers("hugetlb\n");
        for (controller, directory) in [
            (Controller::Memory, "/sys/fs/cgroup/memory"),
            (Controller::Pids, "/sys/fs/cgroup/pids"),
            (Controller::Cpu, "/sys/fs/cgroup/cpu,cpuacct"),
        ] {
            assert_eq!(layout.find(controller), Some((Version::V1, Path::new(directory))));
        }
        assert_eq!(layout.roots().len(), 4);
        assert!(layout.roots().contains(&Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn a_pure_machine_has_one_tree() {
        let mut layout = Layout::parse(PURE);
        layout.set_unified_controllers("cpuset cpu io memory hugetlb pids rdma");
        assert_eq!(layout.find(Controller::Memory), Some((Version::V2, Path::new("/sys/fs/cgroup"))));
        assert_eq!(layout.roots(), vec![Path::new("/sys/fs/cgroup")]);
    }

    #[test]
    fn an_old_machine_freezes_by_version_1() {
        let without_unified = HYBRID.lines().filter(|line| !line.contains("cgroup2")).collect::<Vec<_>>().join("\n");
        let layout = Layout::parse(&without_unified);
        assert!(layout.roots().contains(&Path::new("/sys/fs/cgroup/freezer")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut layout = Layout::parse(PURE);
        layout.set_unified_controllers("cpu memory");
        assert_eq!(layout.find(Controller::Pids), None);
        assert!(layout.describe().contains("no pids"));
    }
}
