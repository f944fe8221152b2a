//! Paths as text: made absolute and normal without looking at any file system.

/// An absolute path without `.`, `..`, doubled or trailing slashes. `..` at the root stays at the root.
#[must_use]
pub(crate) fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The path as seen from a directory.
#[must_use]
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') { normalise(path) } else { normalise(&format!("{directory}/{path}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_normal() {
        for (directory, path, expected) in [
            ("/workspace", "a/b", "/workspace/a/b"),
            ("/workspace", "../etc/passwd", "/etc/passwd"),
            ("/workspace", "/workspace/../etc//x/", "/etc/x"),
            ("/workspace", "../../..", "/"),
            ("/workspace/", "./.", "/workspace"),
            ("/", "", "/"),
        ] {
            assert_eq!(join(directory, path), expected, "{directory} {path}");
        }
    }
}
