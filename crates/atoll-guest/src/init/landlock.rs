//! Landlock on top of everything else: nothing is written but below a few paths, even where a mount or a permission
//! were to allow it, and no process signals one outside. Put in force once, in the guest, so that all processes of the
//! sandbox share one domain and can go on signalling each other.

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// What this knows to ask for; an older kernel gives less, and one without Landlock is refused.
const ABI_KNOWN: ABI = ABI::V6;

/// Everybody may change what `/proc` lets them change of their own processes.
const PROCESSES: &str = "/proc";

/// Why Landlock is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockError {
    #[error("the kernel does not take the rules")]
    Rules(#[source] landlock::RulesetError),
    #[error("{path} can not be opened")]
    Path {
        path: String,
        #[source]
        source: landlock::PathFdError,
    },
    #[error("the kernel has none (CONFIG_SECURITY_LANDLOCK, and `landlock` among `lsm=`)")]
    Absent,
}

/// For this process and all that it will start.
pub(crate) fn restrict(writable: &[String]) -> Result<(), LandlockError> {
    let mut rules = vec![
        ("/".to_owned(), AccessFs::from_read(ABI_KNOWN)),
        (PROCESSES.to_owned(), AccessFs::from_read(ABI_KNOWN) | AccessFs::WriteFile | AccessFs::Truncate),
    ];
    rules.extend(writable.iter().map(|path| (path.clone(), AccessFs::from_all(ABI_KNOWN))));
    enforce(rules)
}

fn enforce(rules: Vec<(String, BitFlags<AccessFs>)>) -> Result<(), LandlockError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_KNOWN))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI_KNOWN)))
        .and_then(Ruleset::create)
        .map_err(LandlockError::Rules)?;
    for (path, access) in rules {
        let beneath = PathFd::new(&path).map_err(|source| LandlockError::Path { path, source })?;
        ruleset = ruleset.add_rule(PathBeneath::new(beneath, access)).map_err(LandlockError::Rules)?;
    }
    let status = ruleset.restrict_self().map_err(LandlockError::Rules)?;
    if status.ruleset == RulesetStatus::NotEnforced { Err(LandlockError::Absent) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_can_be_written() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        let paths = [inside.path().join("file"), outside.path().join("file")];
        // A domain is of one thread, which ends with this.
        let written = std::thread::spawn(move || {
            let before = paths.each_ref().map(|path| std::fs::write(path, "before").is_ok());
            let named = paths[0].parent().unwrap().to_str().unwrap().to_owned();
            match restrict(&[named]) {
                // A kernel without Landlock restricts nothing, and says so.
                Err(LandlockError::Absent) => return None,
                other => other.unwrap(),
            }
            let after = paths.each_ref().map(|path| std::fs::write(path, "after").is_ok());
            Some((before, after, std::fs::read_to_string(&paths[1]).unwrap()))
        })
        .join()
        .unwrap();
        let expected = ([true, true], [true, false], "before".to_owned());
        assert!(written.is_none_or(|written| written == expected));
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = std::thread::spawn(|| restrict(&["/nonexistent".to_owned()]).unwrap_err()).join().unwrap();
        assert!(error.to_string().contains("/nonexistent") || matches!(error, LandlockError::Absent), "{error}");
    }
}
