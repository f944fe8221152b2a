//! Control groups of version 1, version 2, and both at once: limits, counters, freezing and killing.

pub mod layout;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use atoll_stdx::Hint;

use crate::record::SandboxStats;
use crate::spec::{DEFAULT_PIDS_MAX, Resources};

pub use layout::{Controller, Layout, Version};

/// Length of a processor period.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel takes no shorter quota.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// Key of the version 2 hierarchy among a sandbox's groups.
const UNIFIED: &str = "unified";
const SUPERVISORS: &str = "supervisors";

/// Control groups could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A controller is not available.
    #[error("the {0} controller of control groups is not available")]
    Missing(&'static str),
    /// A limit has no file in this kernel.
    #[error("this kernel cannot enforce {0}")]
    NoLimit(&'static str),
    /// A group's file could not be used.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Hint for CgroupError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(name) => Some(format!(
                "mount it (`mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}`, or version 2 on /sys/fs/cgroup), \
                 or remove `cgroup_disable={name}` from the kernel's command line"
            )),
            Self::NoLimit(_) => Some("leave the limit out, or run a kernel that has it".to_owned()),
            Self::Write { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                Some("start Atoll outside of a container's own group, or delegate a group without processes".to_owned())
            }
            Self::Write { .. } => None,
        }
    }
}

/// One plane's part of the control-group trees.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    /// Name of the plane's group in every tree.
    parent: String,
}

/// One sandbox's groups, by controller; version 2 has one directory for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Directory by controller name.
    pub by_controller: BTreeMap<String, PathBuf>,
}

impl Cgroups {
    /// The part of the plane that `parent` names. Changes nothing.
    #[must_use]
    pub fn new(layout: Layout, parent: &str) -> Self {
        Self { layout, parent: parent.to_owned() }
    }

    /// The machine's trees.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The plane's group in every tree.
    pub fn parents(&self) -> Vec<PathBuf> {
        self.layout.roots().into_iter().map(|root| root.join(&self.parent)).collect()
    }

    /// Makes the plane's groups, where they are not there, and hands controllers down to them.
    ///
    /// # Errors
    /// A needed controller is missing, or the kernel refuses.
    pub fn prepare(&self) -> Result<(), CgroupError> {
        for controller in Controller::NEEDED {
            if self.layout.find(controller).is_none() {
                return Err(CgroupError::Missing(controller.name()));
            }
        }
        let parents = self.parents();
        let made_last = self.layout.unified.as_ref().map(|unified| unified.join(&self.parent).join(SUPERVISORS));
        if made_last.is_some_and(|last| last.is_dir()) && parents.iter().all(|parent| parent.is_dir()) {
            return Ok(());
        }
        for parent in parents {
            make_dir(&parent)?;
        }
        let handed_down: Vec<String> = Controller::NEEDED
            .iter()
            .filter(|controller| self.layout.find(**controller).is_some_and(|(version, _)| version == Version::V2))
            .map(|controller| format!("+{}", controller.name()))
            .collect();
        if let Some(unified) = self.layout.unified.as_ref() {
            if !handed_down.is_empty() {
                let line = handed_down.join(" ");
                write(&unified.join("cgroup.subtree_control"), &line)?;
                write(&unified.join(&self.parent).join("cgroup.subtree_control"), &line)?;
            }
            make_dir(&unified.join(&self.parent).join(SUPERVISORS))?;
        }
        Ok(())
    }

    /// Makes a sandbox's groups with their limits.
    ///
    /// # Errors
    /// A limit that cannot be set; groups made so far stay, to be removed by [`Cgroups::remove`].
    pub fn create(&self, name: &str, resources: &Resources) -> Result<Groups, CgroupError> {
        let groups = self.groups(name);
        for directory in groups.directories() {
            make_dir(directory)?;
        }
        self.limit_memory(&groups, resources)?;
        let pids = resources.pids_max.unwrap_or(DEFAULT_PIDS_MAX);
        write(&groups.directory(Controller::Pids)?.join("pids.max"), &pids.to_string())?;
        self.limit_cpu(&groups, resources)?;
        Ok(groups)
    }

    /// Where a sandbox's groups are.
    #[must_use]
    pub fn groups(&self, name: &str) -> Groups {
        let mut by_controller = BTreeMap::new();
        for controller in Controller::NEEDED {
            if let Some((_, root)) = self.layout.find(controller) {
                by_controller.insert(controller.name().to_owned(), root.join(&self.parent).join(name));
            }
        }
        if let Some(unified) = &self.layout.unified {
            by_controller.insert(UNIFIED.to_owned(), unified.join(&self.parent).join(name));
        } else if let Some((_, root)) = self.layout.find(Controller::Freezer) {
            by_controller.insert(Controller::Freezer.name().to_owned(), root.join(&self.parent).join(name));
        }
        Groups { by_controller }
    }

    fn limit_memory(&self, groups: &Groups, resources: &Resources) -> Result<(), CgroupError> {
        let Some(bytes) = resources.memory_bytes else { return Ok(()) };
        let directory = groups.directory(Controller::Memory)?;
        let version = self.layout.find(Controller::Memory).map_or(Version::V2, |(version, _)| version);
        let (limit, swap, swap_limit) = match version {
            Version::V2 => ("memory.max", "memory.swap.max", 0),
            // Version 1 counts memory and swap together.
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
        };
        write(&directory.join(limit), &bytes.to_string())?;
        let swap = directory.join(swap);
        // A kernel without swap accounting has no such file; where there is swap, it would be a way around the limit.
        if swap.exists() || machine_has_swap() {
            write(&swap, &swap_limit.to_string())?;
        }
        Ok(())
    }

    fn limit_cpu(&self, groups: &Groups, resources: &Resources) -> Result<(), CgroupError> {
        let Some(millis) = resources.cpu_millis else { return Ok(()) };
        let directory = groups.directory(Controller::Cpu)?;
        let quota = (millis * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN);
        let version = self.layout.find(Controller::Cpu).map_or(Version::V2, |(version, _)| version);
        let (file, value) = match version {
            Version::V2 => ("cpu.max", format!("{quota} {CPU_PERIOD_US}")),
            Version::V1 => ("cpu.cfs_quota_us", quota.to_string()),
        };
        let path = directory.join(file);
        if !path.exists() {
            return Err(CgroupError::NoLimit("a share of the processor (CONFIG_CFS_BANDWIDTH)"));
        }
        write(&path, &value)
    }

    /// The group that supervisors are started in, apart from the plane's own groups, so that ending those does not end
    /// them; `None` on a machine without version 2.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_supervisors(&self) -> Result<Option<File>, CgroupError> {
        let Some(unified) = &self.layout.unified else { return Ok(None) };
        open_directory(&unified.join(&self.parent).join(SUPERVISORS)).map(Some)
    }

    /// Names of sandboxes that have groups, whether known or not.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<String> {
        let mut names = std::collections::BTreeSet::new();
        for parent in self.parents() {
            names.extend(subdirectories(&parent).into_iter().filter(|name| name != SUPERVISORS));
        }
        names.into_iter().collect()
    }

    /// Removes the plane's own groups, if nothing is left in them.
    pub fn remove_parents(&self) {
        for parent in self.parents() {
            // Whoever still uses one removes it later.
            let _ = fs::remove_dir(parent.join(SUPERVISORS));
            let _ = fs::remove_dir(parent);
        }
    }
}

impl Groups {
    fn directory(&self, controller: Controller) -> Result<&PathBuf, CgroupError> {
        self.by_controller.get(controller.name()).ok_or(CgroupError::Missing(controller.name()))
    }

    /// Every directory once.
    #[must_use]
    pub fn directories(&self) -> Vec<&Path> {
        let mut found: Vec<&Path> = self.by_controller.values().map(PathBuf::as_path).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The version 2 group, to be cloned into; `None` on a machine without.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_unified(&self) -> Result<Option<File>, CgroupError> {
        self.by_controller.get(UNIFIED).map(|directory| open_directory(directory)).transpose()
    }

    /// The files through which a thread joins the version 1 groups.
    ///
    /// # Errors
    /// One cannot be opened.
    pub fn open_tasks(&self) -> Result<Vec<File>, CgroupError> {
        let unified = self.by_controller.get(UNIFIED).map(PathBuf::as_path);
        let version_1 = self.directories().into_iter().filter(|directory| Some(*directory) != unified);
        version_1.map(|directory| open_write(&directory.join("tasks"))).collect()
    }

    /// The counter of processes killed for lack of memory.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_memory_events(&self) -> Result<File, CgroupError> {
        let directory = self.directory(Controller::Memory)?;
        let version_2 = directory.join("memory.events");
        let path = if version_2.exists() { version_2 } else { directory.join("memory.oom_control") };
        File::open(&path).map_err(|source| CgroupError::Write { path, source })
    }

    /// Sends every process the final signal, frozen or not. Does not wait.
    pub fn kill(&self) {
        if let Some(unified) = self.by_controller.get(UNIFIED)
            && fs::write(unified.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // A group that cannot be thawed is not frozen.
        let _ = self.freeze(false);
        for pid in self.processes() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                // It may have ended meanwhile; its number is not given out again that fast.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Processes that are in any of the groups.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut found = std::collections::BTreeSet::new();
        for directory in self.directories() {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        found.into_iter().collect()
    }

    /// Removes the groups. Those with processes stay, and make this an error.
    ///
    /// # Errors
    /// A group cannot be removed.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for directory in self.directories() {
            match fs::remove_dir(directory) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CgroupError::Write { path: directory.to_owned(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops every process where it is, or lets it go on.
    ///
    /// # Errors
    /// The machine has no way to, or refuses.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        if let Some(unified) = self.by_controller.get(UNIFIED) {
            return write(&unified.join("cgroup.freeze"), if frozen { "1" } else { "0" });
        }
        let directory = self.directory(Controller::Freezer)?;
        write(&directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
    }

    /// What the processes use now.
    ///
    /// # Errors
    /// A counter cannot be read.
    pub fn stats(&self) -> Result<SandboxStats, CgroupError> {
        let read = |controller: Controller, file: &str| -> Result<String, CgroupError> {
            let path = self.directory(controller)?.join(file);
            fs::read_to_string(&path).map_err(|source| CgroupError::Write { path, source })
        };
        let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
        let memory = read(Controller::Memory, "memory.current")
            .or_else(|_| read(Controller::Memory, "memory.usage_in_bytes"))?;
        // Processor time is counted in the version 2 tree even where that has no controllers.
        let cpu = self.by_controller.get(UNIFIED).and_then(|unified| fs::read_to_string(unified.join("cpu.stat")).ok());
        let cpu_usage_us = cpu
            .as_deref()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("usage_usec ")))
            .map_or(0, number);
        let pids = read(Controller::Pids, "pids.current")?;
        Ok(SandboxStats { memory_bytes: number(&memory), cpu_usage_us, pids: number(&pids) })
    }
}

fn machine_has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

fn subdirectories(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| CgroupError::Write { path: path.to_owned(), source }),
    }
}

fn open_directory(path: &Path) -> Result<File, CgroupError> {
    File::open(path).map_err(|source| CgroupError::Write { path: path.to_owned(), source })
}

fn open_write(path: &Path) -> Result<File, CgroupError> {
    File::options().write(true).open(path).map_err(|source| CgroupError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    use std::io::Write as _;
    open_write(path)?.write_all(value.as_bytes()).map_err(|source| CgroupError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
