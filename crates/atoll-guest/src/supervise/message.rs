//! The three messages between launcher and supervisor: the plan, the report, the consent.

use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use atoll_guest::supervisor::{
    DESCRIPTORS_MAX, FIXED_DESCRIPTORS, PLAN_BYTES_MAX, PLAN_VERSION, Plan, PlanHeader, Report,
};

use super::identity;
use super::sys::{Trouble, check, check_io};

const HEADER_BYTES_MAX: usize = 4096;

/// The plan with everything that it needs open.
pub(super) struct Assignment {
    pub(super) plan: Plan,
    /// Holds the bytes of files, from `blobs_at` on.
    pub(super) memory: File,
    pub(super) blobs_at: u64,
    pub(super) network: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) guest: OwnedFd,
    pub(super) run_dir: OwnedFd,
    pub(super) memory_events: File,
    pub(super) runsc: Option<OwnedFd>,
    /// Directory of the version 2 control group, to be cloned into: moving takes a lock that all of the machine's
    /// forks share, and waits for every processor.
    pub(super) unified: Option<OwnedFd>,
    /// `tasks` files of version 1 groups: joined through them, a single thread needs no such lock.
    pub(super) tasks: Vec<OwnedFd>,
    /// Who is who in each share of the plan.
    pub(super) share_maps: Vec<OwnedFd>,
}

/// Waits for the plan.
pub(super) fn receive(socket: &OwnedFd) -> Result<Assignment, Trouble> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = check(
        "receive the plan",
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC),
    )?;
    let mut descriptors = Vec::with_capacity(DESCRIPTORS_MAX);
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    let header: PlanHeader =
        serde_json::from_slice(&bytes[..received.bytes]).map_err(|_| Trouble::plain("read the plan's header"))?;
    assemble(&header, descriptors)
}

fn assemble(header: &PlanHeader, descriptors: Vec<OwnedFd>) -> Result<Assignment, Trouble> {
    let expected = FIXED_DESCRIPTORS + usize::from(header.runsc) + usize::from(header.unified) + header.tasks as usize;
    if header.plan_bytes > PLAN_BYTES_MAX || descriptors.len() != expected {
        return Err(Trouble::plain("make sense of the plan's header"));
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| Trouble::plain("find the plan's descriptors"));
    let memory = File::from(next()?);
    let mut text = vec![0; usize::try_from(header.plan_bytes).map_err(|_| Trouble::plain("hold the plan"))?];
    check_io("read the plan", memory.read_exact_at(&mut text, 0))?;
    let plan: Plan = serde_json::from_slice(&text).map_err(|_| Trouble::plain("parse the plan"))?;
    if plan.version != PLAN_VERSION {
        return Err(Trouble::plain("follow a plan of another version"));
    }
    let share_maps = identity::share_maps(&plan)?;
    Ok(Assignment {
        plan,
        memory,
        blobs_at: header.plan_bytes,
        network: next()?,
        listener: next()?,
        guest: next()?,
        run_dir: next()?,
        memory_events: File::from(next()?),
        runsc: if header.runsc { Some(next()?) } else { None },
        unified: if header.unified { Some(next()?) } else { None },
        tasks: descriptors.collect(),
        share_maps,
    })
}

/// Tells the launcher what came of the plan.
pub(super) fn report(socket: &OwnedFd, report: &Report) -> Result<(), Trouble> {
    let text = serde_json::to_vec(report).map_err(|_| Trouble::plain("write the report"))?;
    check("send the report", rustix::net::send(socket, &text, SendFlags::NOSIGNAL)).map(drop)
}

/// Waits for the launcher to have recorded the sandbox.
pub(super) fn await_consent(socket: &OwnedFd) -> Result<(), Trouble> {
    let mut byte = [0];
    match check("await consent", rustix::io::read(socket, &mut byte))? {
        1 => Ok(()),
        _ => Err(Trouble::plain("await consent")),
    }
}
