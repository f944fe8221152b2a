//! Questions to the kernel that change nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
const KVM_GET_API_VERSION: libc::Ioctl = 0xAE00;

const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);
const REQUEST_BYTES: u32 = 20;
/// `NFT_MSG_GETGEN` of the subsystem `NFNL_SUBSYS_NFTABLES`.
const GET_GENERATION: u16 = 10 << 8 | 16;
const FLAG_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const REPLY_BYTES: usize = 4096;

/// The version of Landlock's interface.
#[expect(unsafe_code, reason = "Landlock has no safe interface here")]
pub(super) fn landlock_version() -> io::Result<i64> {
    // SAFETY: with this flag the kernel only answers with a number; it wants a null pointer of size 0 and reads nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

/// The version of the interface of `/dev/kvm`.
#[expect(unsafe_code, reason = "a device's own request has no safe interface here")]
pub(super) fn kvm_version() -> io::Result<i32> {
    let device = File::options().read(true).write(true).open("/dev/kvm")?;
    // SAFETY: the descriptor is open until after the call; this request takes no memory and answers with a number.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION, 0) };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

/// Asks `nf_tables` for the number of its rules' generation. The kernel may load its module for that.
pub(super) fn ask_packet_filter() -> Result<(), Errno> {
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(RECEIVE_TIMEOUT))?;
    let mut request = Vec::from(REQUEST_BYTES.to_ne_bytes());
    request.extend(GET_GENERATION.to_ne_bytes());
    request.extend(FLAG_REQUEST.to_ne_bytes());
    // A sequence number, the kernel as the receiver, and a body that says nothing in particular.
    request.extend(1_u32.to_ne_bytes());
    request.extend([0; 8]);
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut reply = [0; REPLY_BYTES];
    let (count, _) = rustix::net::recv(&socket, &mut reply[..], RecvFlags::empty())?;
    refusal_in(reply.get(..count).unwrap_or_default())
}

/// Whether a reply is a refusal, and which.
fn refusal_in(reply: &[u8]) -> Result<(), Errno> {
    let kind = reply.get(4..).and_then(|rest| rest.first_chunk()).ok_or(Errno::BADMSG)?;
    if u16::from_ne_bytes(*kind) != NLMSG_ERROR {
        return Ok(());
    }
    let code = reply.get(16..).and_then(|rest| rest.first_chunk()).ok_or(Errno::BADMSG)?;
    match i32::from_ne_bytes(*code) {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        let reply = |kind: u16, code: i32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert_eq!(refusal_in(&reply(NLMSG_ERROR, -libc::EPERM)), Err(Errno::PERM));
        assert_eq!(refusal_in(&reply(NLMSG_ERROR, 0)), Ok(()));
        assert_eq!(refusal_in(&reply(10 << 8 | 15, 7)), Ok(()));
        assert_eq!(refusal_in(&[]), Err(Errno::BADMSG));
        assert_eq!(refusal_in(&reply(NLMSG_ERROR, 0)[..18]), Err(Errno::BADMSG));
    }
}
