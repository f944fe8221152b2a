//! Which isolation a Pod gets: what its RuntimeClass names, or what its declared risk asks for, and never less than its
//! namespace demands.
//!
//! The risk is declared in a template's Pod annotations and walked as a tree (the classes are those of "choose the
//! runtime by risk"): code of nobody's choosing by people who are trusted may share the machine's kernel; what runs
//! arbitrary code, or serves strangers, gets a kernel of its own; arbitrary code of strangers gets a machine of its own.

use std::collections::BTreeMap;

use atoll_api::annotations::{ARBITRARY_CODE, MINIMUM_TIER, TRUST};
use atoll_sandbox::Tier;

use crate::environment::Unprepared;

/// The RuntimeClass that leaves the choice to the declared risk.
pub(crate) const AUTO: &str = "auto";

/// How much stands between a workload and the machine, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Filters in front of the machine's kernel.
    Native,
    /// A kernel in user space.
    Gvisor,
    /// A virtual machine.
    Microvm,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Gvisor => "gvisor",
            Self::Microvm => "microvm",
        }
    }

    /// From a RuntimeClass: our own names, and those that clusters commonly have.
    fn of_class(name: &str) -> Option<Self> {
        match name {
            "native" | "runc" => Some(Self::Native),
            "gvisor" => Some(Self::Gvisor),
            "microvm" | "kata" | "kata-qemu" | "kata-clh" | "kata-fc" | "firecracker" => Some(Self::Microvm),
            _ => None,
        }
    }
}

type Annotations = BTreeMap<String, String>;

/// The tier of a Pod with this RuntimeClass and these annotations, in a namespace with those.
pub(crate) fn choose(
    class: Option<&str>,
    pod: Option<&Annotations>,
    namespace: Option<&Annotations>,
) -> Result<Tier, Unprepared> {
    let floor = floor(namespace)?;
    let asked = match class {
        None if !declares_risk(pod) => Level::Native,
        None | Some(AUTO) => by_risk(pod)?.max(floor),
        Some(name) => Level::of_class(name).ok_or_else(|| {
            Unprepared::Refused(format!(
                "spec.runtimeClassName \"{name}\" is not supported: this node has native, gvisor and auto"
            ))
        })?,
    };
    if asked < floor {
        return Err(Unprepared::Refused(format!(
            "the tier {} is less than what the namespace demands: its annotation {MINIMUM_TIER} is {}",
            asked.name(),
            floor.name()
        )));
    }
    match asked {
        Level::Native => Ok(Tier::Native),
        Level::Gvisor => Ok(Tier::Gvisor),
        Level::Microvm => Err(Unprepared::Refused(format!(
            "{} asks for the tier microvm, which this node does not have; it has native and gvisor",
            class.filter(|class| *class != AUTO).map_or_else(
                || "the declared risk, or the namespace,".to_owned(),
                |class| format!("spec.runtimeClassName \"{class}\"")
            )
        ))),
    }
}

fn declares_risk(pod: Option<&Annotations>) -> bool {
    pod.is_some_and(|annotations| annotations.contains_key(TRUST) || annotations.contains_key(ARBITRARY_CODE))
}

/// What is not declared is taken for the worse.
fn by_risk(pod: Option<&Annotations>) -> Result<Level, Unprepared> {
    let value = |key: &str| pod.and_then(|annotations| annotations.get(key)).map(String::as_str);
    let unknown = |key: &str, value: &str, known: &str| {
        Unprepared::Refused(format!("the annotation {key} is \"{value}\": it can be {known}"))
    };
    let runs_code = match value(ARBITRARY_CODE) {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(unknown(ARBITRARY_CODE, other, "true or false")),
    };
    match (value(TRUST), runs_code) {
        (Some("trusted"), false) => Ok(Level::Native),
        (Some("hostile"), true) => Ok(Level::Microvm),
        (None | Some("trusted" | "untrusted" | "hostile"), _) => Ok(Level::Gvisor),
        (Some(other), _) => Err(unknown(TRUST, other, "trusted, untrusted or hostile")),
    }
}

fn floor(namespace: Option<&Annotations>) -> Result<Level, Unprepared> {
    let Some(name) = namespace.and_then(|annotations| annotations.get(MINIMUM_TIER)) else { return Ok(Level::Native) };
    // One that cannot be understood may have meant anything.
    Level::of_class(name).ok_or_else(|| {
        Unprepared::Refused(format!(
            "the namespace's annotation {MINIMUM_TIER} is \"{name}\": it can be native, gvisor or microvm"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Annotations of a Pod.
    type Declared = &'static [(&'static str, &'static str)];

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn chosen(class: Option<&str>, pod: &[(&str, &str)], floor: Option<&str>) -> Result<Tier, String> {
        let floor: Vec<(&str, &str)> = floor.map(|floor| (MINIMUM_TIER, floor)).into_iter().collect();
        choose(class, Some(&annotations(pod)), Some(&annotations(&floor))).map_err(|error| error.to_string())
    }

    #[test]
    fn the_declared_risk_is_walked_as_a_tree() {
        let cases: [(Declared, Result<Tier, &str>); 9] = [
            (&[(TRUST, "trusted"), (ARBITRARY_CODE, "false")], Ok(Tier::Native)),
            (&[(TRUST, "untrusted"), (ARBITRARY_CODE, "false")], Ok(Tier::Gvisor)),
            (&[(TRUST, "hostile"), (ARBITRARY_CODE, "false")], Ok(Tier::Gvisor)),
            (&[(TRUST, "trusted"), (ARBITRARY_CODE, "true")], Ok(Tier::Gvisor)),
            (&[(TRUST, "untrusted"), (ARBITRARY_CODE, "true")], Ok(Tier::Gvisor)),
            (&[(TRUST, "hostile"), (ARBITRARY_CODE, "true")], Err("asks for the tier microvm")),
            // What is not said is taken for the worse.
            (&[(TRUST, "trusted")], Ok(Tier::Gvisor)),
            (&[(TRUST, "friend")], Err("trusted, untrusted or hostile")),
            (&[(ARBITRARY_CODE, "perhaps")], Err("true or false")),
        ];
        for (pod, expected) in cases {
            for class in [None, Some(AUTO)] {
                match (chosen(class, pod, None), expected) {
                    (Ok(tier), Ok(expected)) => assert_eq!(tier, expected, "{pod:?}"),
                    (Err(message), Err(expected)) => assert!(message.contains(expected), "{pod:?}: {message}"),
                    (got, expected) => panic!("{pod:?}: {got:?} instead of {expected:?}"),
                }
            }
        }
        assert_eq!(chosen(Some(AUTO), &[], None), Ok(Tier::Gvisor));
        assert_eq!(chosen(None, &[], None), Ok(Tier::Native));
    }

    #[test]
    fn nothing_goes_below_the_namespaces_floor() {
        let trusted = [(TRUST, "trusted"), (ARBITRARY_CODE, "false")];
        assert_eq!(chosen(Some("gvisor"), &[], Some("gvisor")), Ok(Tier::Gvisor));
        assert_eq!(chosen(Some(AUTO), &trusted, Some("gvisor")), Ok(Tier::Gvisor), "auto rises to the floor");
        assert_eq!(chosen(Some("gvisor"), &[], Some("native")), Ok(Tier::Gvisor), "above the floor is fine");
        for (class, floor, expected) in [
            (None, "gvisor", "the tier native is less than what the namespace demands"),
            (Some("native"), "gvisor", "the tier native is less"),
            (Some("runc"), "kata", "the tier native is less"),
            (Some("gvisor"), "microvm", "the tier gvisor is less"),
            (Some(AUTO), "microvm", "asks for the tier microvm"),
            (Some("gvisor"), "paranoid", "it can be native, gvisor or microvm"),
        ] {
            let message = chosen(class, &[], Some(floor)).unwrap_err();
            assert!(message.contains(expected), "{class:?} in {floor}: {message}");
        }
    }

    #[test]
    fn names_of_clusters_are_mapped_or_refused_with_the_reason() {
        assert_eq!(chosen(Some("runc"), &[], None), Ok(Tier::Native));
        for name in ["kata", "kata-fc", "microvm"] {
            let message = chosen(Some(name), &[], None).unwrap_err();
            assert!(message.contains(&format!("\"{name}\" asks for the tier microvm")), "{message}");
        }
        assert!(chosen(Some("wasm"), &[], None).unwrap_err().contains("\"wasm\" is not supported"));
    }
}
