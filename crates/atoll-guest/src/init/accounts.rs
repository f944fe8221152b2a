//! Home directories from `/etc/passwd`, which belongs to the image and may say anything.

use std::io::Read as _;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

const PASSWD_BYTES_MAX: u64 = 1024 * 1024;

/// The home directory of a user, `/` when none is known.
pub(crate) fn home_of(uid: u32) -> String {
    read_passwd().and_then(|passwd| find_home(&passwd, uid)).unwrap_or_else(|| "/".to_owned())
}

fn read_passwd() -> Option<String> {
    // Never waits: the file could have been replaced by a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = open("/etc/passwd", flags, Mode::empty()).ok()?;
    if FileType::from_raw_mode(fstat(&fd).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(PASSWD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn find_home(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (found == uid && home.starts_with('/') && !home.contains('\0')).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_uid() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nagent:x:1000:1000::/home/agent:/bin/sh\nodd:x:7:7::relative:\n";
        for (uid, expected) in [(0, Some("/root")), (1000, Some("/home/agent")), (7, None), (5, None)] {
            assert_eq!(find_home(passwd, uid).as_deref(), expected, "{uid}");
        }
    }
}
