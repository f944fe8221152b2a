//! Starts a supervisor and hands it its plan.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::clone;
use atoll_guest::supervisor::{DESCRIPTORS_MAX, Plan, PlanHeader, Report};

const REPORT_BYTES_MAX: usize = 8 * 1024;

/// A started supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) pid: u32,
    /// Its plan goes in, its report comes out.
    pub(super) socket: OwnedFd,
}

/// What a plan needs open, besides itself.
pub(super) struct Descriptors<'a> {
    pub(super) network: BorrowedFd<'a>,
    pub(super) listener: BorrowedFd<'a>,
    pub(super) guest: BorrowedFd<'a>,
    pub(super) run_dir: BorrowedFd<'a>,
    pub(super) memory_events: BorrowedFd<'a>,
    pub(super) runsc: Option<BorrowedFd<'a>>,
    pub(super) unified: Option<BorrowedFd<'a>>,
    pub(super) tasks: Vec<BorrowedFd<'a>>,
}

/// Runs the guest binary in the role `supervise`, in a version 2 control group if there is one. It does nothing until
/// it gets a plan, and ends when the socket is closed before.
pub(super) fn spawn(guest: &File, cgroup: Option<&File>) -> io::Result<Supervisor> {
    let (socket, child_socket) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let arguments = [c"atoll-guest", c"supervise"];
    let standard = [child_socket.as_fd(), null.as_fd(), null.as_fd()];
    let pid = clone::spawn(guest.as_fd(), &arguments, standard, cgroup.map(AsFd::as_fd))?;
    Ok(Supervisor { pid, socket })
}

/// Sends the plan.
pub(super) fn send_plan(socket: &OwnedFd, plan: &Plan, blobs: &[u8], descriptors: &Descriptors<'_>) -> io::Result<()> {
    let text = serde_json::to_vec(plan).map_err(io::Error::other)?;
    let mut memory = File::from(rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)?);
    memory.write_all(&text)?;
    memory.write_all(blobs)?;

    let tasks = u32::try_from(descriptors.tasks.len()).map_err(io::Error::other)?;
    let (runsc, unified) = (descriptors.runsc.is_some(), descriptors.unified.is_some());
    let header = PlanHeader { plan_bytes: text.len() as u64, runsc, unified, tasks };
    let header = serde_json::to_vec(&header).map_err(io::Error::other)?;
    let mut list = vec![
        memory.as_fd(),
        descriptors.network,
        descriptors.listener,
        descriptors.guest,
        descriptors.run_dir,
        descriptors.memory_events,
    ];
    list.extend(descriptors.runsc);
    list.extend(descriptors.unified);
    list.extend(&descriptors.tasks);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&list)) {
        return Err(io::Error::other("a sandbox has too many control groups"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&header)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The supervisor's report, once its socket is readable. `None` if it ended without one.
pub(super) fn receive_report(socket: &OwnedFd) -> Option<Report> {
    let mut bytes = [0; REPORT_BYTES_MAX];
    let (count, _) = rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT).ok()?;
    serde_json::from_slice(&bytes[..count]).ok()
}

/// Lets the guest live. Its supervisor may have ended already; that is seen elsewhere.
pub(super) fn consent(socket: &OwnedFd) {
    let _ = rustix::net::send(socket, b"!", SendFlags::NOSIGNAL);
}
