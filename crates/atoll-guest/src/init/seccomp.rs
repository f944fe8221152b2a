//! The system calls that anything in a sandbox can make, the guest included.
//!
//! Three filters, all checked by the kernel on every call; the architecture is checked first and a foreign one kills.
//!
//! 1. The allowlist: what is not on it does not exist (`ENOSYS`), as on an older kernel. So programs fall back:
//!    `clone3` to `clone`, `io_uring` to ordinary calls. The x32 variants of all calls are off the list too.
//! 2. The denials, installed second so that their `EPERM` is what the caller sees: calls that programs probe for and
//!    that would be confusing as `ENOSYS`, and calls of the allowlist with arguments that are not allowed.
//! 3. The pretences: setting the limit of core dumps appears to succeed and does nothing. The limit must stay as the
//!    guest set it, because a program that sets it to 0 would have its core piped to the machine's handler; and
//!    programs that hold keys end when they can not set it.
//!
//! They are installed once, in the guest before its first thread, and every process of the sandbox inherits them:
//! there is no path by which a process could be started without.

mod calls;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("the filter can not be built for this architecture")]
    Build(#[source] BackendError),
    #[error("the kernel refused the filter")]
    Install(#[source] seccompiler::Error),
}

/// Installs all filters on the calling thread, to be inherited by all threads and processes it starts.
pub(crate) fn install() -> Result<(), SeccompError> {
    for program in [allowlist()?, denials()?, pretences()?] {
        seccompiler::apply_filter(&program).map_err(SeccompError::Install)?;
    }
    Ok(())
}

fn allowlist() -> Result<BpfProgram, SeccompError> {
    let rules = calls::ALLOWED.iter().chain(calls::ALLOWED_LEGACY).map(|call| (*call, Vec::new())).collect();
    build(rules, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)
}

fn denials() -> Result<BpfProgram, SeccompError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        calls::DENIED.iter().chain(calls::DENIED_LEGACY).map(|call| (*call, Vec::new())).collect();
    for (call, refused) in [
        (libc::SYS_clone, new_namespaces()),
        (libc::SYS_ioctl, terminal_injection()),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, device_files(1)),
        (libc::SYS_mknodat, device_files(2)),
        (libc::SYS_personality, odd_personalities()),
        (libc::SYS_prlimit64, limits_of_others()),
        (libc::SYS_setpriority, better_priorities()),
        (libc::SYS_socket, odd_sockets()),
        (libc::SYS_socketpair, odd_sockets()),
    ] {
        rules.insert(call, refused.map_err(SeccompError::Build)?);
    }
    build(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

fn pretences() -> Result<BpfProgram, SeccompError> {
    let core = u64::from(libc::RLIMIT_CORE);
    let set = |argument| Ok(vec![SeccompRule::new(vec![equal(argument, core)?])?]);
    let set_by_pid = || {
        let sets = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
        Ok(vec![SeccompRule::new(vec![equal(1, core)?, sets])?])
    };
    let rules: [(i64, Rules); 2] = [(libc::SYS_setrlimit, set(0)), (libc::SYS_prlimit64, set_by_pid())];
    let rules = rules.into_iter().map(|(call, rules)| Ok((call, rules?))).collect::<Result<_, _>>();
    build(rules.map_err(SeccompError::Build)?, SeccompAction::Allow, SeccompAction::Errno(0))
}

fn build(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(SeccompError::Build)?;
    SeccompFilter::new(rules, otherwise, matched, arch).and_then(BpfProgram::try_from).map_err(SeccompError::Build)
}

type Rules = Result<Vec<SeccompRule>, BackendError>;

/// `clone` may make threads and processes, no namespaces.
fn new_namespaces() -> Rules {
    let kinds = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    kinds
        .into_iter()
        .map(|kind| {
            let bit = u64::try_from(kind).expect("clone flags fit in 31 bits");
            SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bit), bit)?])
        })
        .collect()
}

/// Pushing input into a terminal would let a command type into the terminal of whoever watches it.
fn terminal_injection() -> Rules {
    const TIOCLINUX: u64 = 0x541c;
    [libc::TIOCSTI, TIOCLINUX].into_iter().map(|request| SeccompRule::new(vec![equal(1, request)?])).collect()
}

/// Named pipes, sockets and ordinary files may be made, no devices; Linux wants a capability for them, gVisor none.
fn device_files(mode: u8) -> Rules {
    let kinds = [libc::S_IFCHR, libc::S_IFBLK].into_iter();
    let is = |kind: libc::mode_t| {
        let mask = SeccompCmpOp::MaskedEq(libc::S_IFMT.into());
        SeccompRule::new(vec![SeccompCondition::new(mode, SeccompCmpArgLen::Dword, mask, kind.into())?])
    };
    kinds.map(is).collect()
}

/// Nobody comes before others by a negative number; Linux wants a capability for that, gVisor none.
fn better_priorities() -> Rules {
    const LARGEST: u64 = i32::MAX as u64;
    Ok(vec![SeccompRule::new(vec![SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, LARGEST)?])?])
}

/// Personalities switch on compatibility code that nobody tests; those that programs really ask for are fine.
fn odd_personalities() -> Rules {
    const PER_LINUX32: u64 = 0x8;
    const UNAME26: u64 = 0x2_0000;
    const ADDR_NO_RANDOMIZE: u64 = 0x4_0000;
    const QUERY: u64 = 0xffff_ffff;
    let usual = [0, PER_LINUX32, UNAME26, UNAME26 | PER_LINUX32, ADDR_NO_RANDOMIZE, QUERY];
    Ok(vec![SeccompRule::new(usual.into_iter().map(|value| unequal(0, value)).collect::<Result<_, _>>()?)?])
}

/// A process may set its own limits (pid 0), and read anyone's.
fn limits_of_others() -> Rules {
    let own = unequal(0, 0)?;
    let sets = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    Ok(vec![SeccompRule::new(vec![own, sets])?])
}

/// Unix, IPv4, IPv6, and of netlink only routing (which `getifaddrs` needs).
fn odd_sockets() -> Rules {
    let family = |family: libc::c_int| u64::try_from(family).expect("socket families are small");
    let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let others = known.into_iter().map(|known| unequal(0, family(known))).collect::<Result<_, _>>()?;
    let netlink = vec![equal(0, family(libc::AF_NETLINK))?, unequal(2, family(libc::NETLINK_ROUTE))?];
    Ok(vec![SeccompRule::new(others)?, SeccompRule::new(netlink)?])
}

/// The low 32 bits of an argument, all that the kernel looks at where an `int` is asked for.
fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn unequal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_call_is_on_two_lists_or_twice_on_one() {
        let mut seen = BTreeSet::new();
        let lists = [calls::ALLOWED, calls::ALLOWED_LEGACY, calls::DENIED, calls::DENIED_LEGACY];
        for call in lists.into_iter().flatten() {
            assert!(seen.insert(*call), "system call {call} is listed twice");
        }
    }

    #[test]
    fn calls_whose_arguments_are_judged_are_on_the_allowlist() {
        for call in [libc::SYS_clone, libc::SYS_ioctl, libc::SYS_personality, libc::SYS_prlimit64, libc::SYS_socket] {
            assert!(calls::ALLOWED.contains(&call), "{call}");
        }
    }

    #[test]
    fn calls_that_must_not_exist_are_on_no_list() {
        let all: BTreeSet<i64> = calls::ALLOWED.iter().chain(calls::ALLOWED_LEGACY).copied().collect();
        for call in [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]
        {
            assert!(!all.contains(&call), "{call}");
        }
    }

    #[test]
    fn the_filters_fit_the_kernel() {
        const INSTRUCTIONS_MAX: usize = 4096;
        for program in [allowlist().unwrap(), denials().unwrap(), pretences().unwrap()] {
            assert!(program.len() < INSTRUCTIONS_MAX, "{}", program.len());
        }
    }
}
