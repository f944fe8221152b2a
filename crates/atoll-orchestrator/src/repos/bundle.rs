//! The head of a git bundle. Git itself, when it fetches from a bundle, does not check the objects in it (before 2.46);
//! so the head is read here, and the pack behind it is given to `git index-pack --strict`.

/// The longest head.
const HEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
const SIGNATURE: &[u8] = b"# v2 git bundle\n";

/// What a bundle says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BundleHead {
    /// Names with the commits (or tags) they point to.
    pub(super) heads: Vec<(String, String)>,
    /// Where the pack begins, in bytes from the start.
    pub(super) pack_offset: u64,
}

/// Reads the head of a bundle from its first bytes.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_head(bytes: &[u8]) -> Result<BundleHead, &'static str> {
    let mut rest = bytes.strip_prefix(SIGNATURE).ok_or("it is not a git bundle of version 2")?;
    let mut heads = Vec::new();
    loop {
        let searched = &rest[..rest.len().min(HEAD_BYTES_MAX)];
        let end = searched.iter().position(|byte| *byte == b'\n').ok_or("its head does not end")?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            return Ok(BundleHead { heads, pack_offset: (bytes.len() - rest.len()) as u64 });
        }
        let line = std::str::from_utf8(line).map_err(|_| "its head is not text")?;
        if let Some(needed) = line.strip_prefix('-') {
            // What it builds on; `index-pack --strict` misses it when it is not there.
            object_id(needed.split(' ').next().unwrap_or_default())?;
            continue;
        }
        let (id, name) = line.split_once(' ').ok_or("its head has a line that says nothing")?;
        heads.push((name.to_owned(), object_id(id)?.to_owned()));
    }
}

fn object_id(text: &str) -> Result<&str, &'static str> {
    let is_id = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(text) } else { Err("its head has a line that is no SHA-1 object id") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let text = format!("# v2 git bundle\n-{id} base\n{id} HEAD\n{id} refs/heads/main\n\nPACK");
        let head = read_head(text.as_bytes()).expect("a bundle");
        let names: Vec<&str> = head.heads.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HEAD", "refs/heads/main"]);
        assert_eq!(&text.as_bytes()[head.pack_offset as usize..], b"PACK");
    }

    #[test]
    fn nonsense_is_named() {
        for (text, expected) in [
            ("", "not a git bundle"),
            ("# v3 git bundle\n@filter=blob:none\n\n", "not a git bundle of version 2"),
            ("# v2 git bundle\nabc HEAD\n\n", "no SHA-1 object id"),
            ("# v2 git bundle\nabc\n\n", "says nothing"),
            ("# v2 git bundle\n-zz\n\n", "no SHA-1 object id"),
            ("# v2 git bundle\n", "does not end"),
        ] {
            assert!(read_head(text.as_bytes()).expect_err(text).contains(expected), "{text:?}");
        }
    }
}
