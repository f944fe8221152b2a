//! The status of a CustomResourceDefinition: which names it has, and whether it is served.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::keywords::{text, texts};
use crate::objects::time_text;

pub(super) const ESTABLISHED: &str = "Established";
const NAMES_ACCEPTED: &str = "NamesAccepted";
const TERMINATING: &str = "Terminating";

/// Names that other kinds of the group have.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Plurals, singulars and short names.
    pub(super) resources: Vec<String>,
    /// Kinds and list kinds.
    pub(super) kinds: Vec<String>,
}

/// Whether a definition has a condition with the status True.
pub(super) fn is_true(definition: &Value, name: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|own| own["type"] == name && own["status"] == "True"))
}

/// Sets a condition; its time changes with its status.
pub(super) fn set(definition: &mut Value, name: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    let mut condition = json!({
        "type": name, "status": status, "lastTransitionTime": time_text(now), "reason": reason, "message": message,
    });
    let conditions = &mut definition["status"]["conditions"];
    let Some(all) = conditions.as_array_mut() else {
        *conditions = json!([condition]);
        return;
    };
    match all.iter_mut().find(|own| own["type"] == name) {
        Some(own) => {
            if own["status"] == status {
                condition["lastTransitionTime"] = own["lastTransitionTime"].clone();
            }
            *own = condition;
        }
        None => all.push(condition),
    }
}

/// Marks a definition whose deletion has been asked for.
pub(super) fn set_terminating(definition: &mut Value, now: Timestamp) {
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set(definition, TERMINATING, "True", "InstanceDeletionPending", message, now);
}

/// Whether a definition is on its way out.
pub(super) fn is_terminating(definition: &Value) -> bool {
    is_true(definition, TERMINATING)
}

/// Gives a definition the names that are free, and establishes it if it got all.
pub(super) fn settle(definition: &mut Value, taken: &Taken, now: Timestamp) {
    let (wanted, mut accepted) = (definition["spec"]["names"].clone(), definition["status"]["acceptedNames"].clone());
    if !accepted.is_object() {
        accepted = json!({});
    }
    let mut conflict: Option<(&str, String)> = None;
    for (name, reason, others) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let new: Vec<&str> = match &wanted[name] {
            Value::Array(_) => texts(&wanted, name),
            _ => vec![text(&wanted, name)],
        };
        let own = |name_of: &str| accepted[name] == name_of || texts(&accepted, name).contains(&name_of);
        let used: Vec<String> = new
            .iter()
            .filter(|it| !own(it) && others.iter().any(|other| other == *it))
            .map(|it| format!("{it:?} is already in use"))
            .collect();
        if used.is_empty() {
            if wanted.get(name).is_some() {
                accepted[name] = wanted[name].clone();
            } else if let Some(accepted) = accepted.as_object_mut() {
                accepted.remove(name);
            }
        } else {
            let message = if used.len() == 1 { used.join("") } else { format!("[{}]", used.join(", ")) };
            conflict = Some((reason, message));
        }
    }
    if wanted.get("categories").is_some() {
        accepted["categories"] = wanted["categories"].clone();
    }
    definition["status"]["acceptedNames"] = accepted;
    match conflict {
        Some((reason, message)) => set(definition, NAMES_ACCEPTED, "False", reason, &message, now),
        None => set(definition, NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found", now),
    }
    if is_true(definition, ESTABLISHED) {
        return;
    }
    if is_true(definition, NAMES_ACCEPTED) {
        let message = "the initial names have been accepted";
        set(definition, ESTABLISHED, "True", "InitialNamesAccepted", message, now);
    } else {
        set(definition, ESTABLISHED, "False", "NotAccepted", "not all names are accepted", now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_unless_others_have_them() {
        let now = Timestamp::UNIX_EPOCH;
        let names = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList", "shortNames": ["t"]});
        let mut definition = json!({"spec": {"names": names}});
        settle(&mut definition, &Taken::default(), now);
        assert!(is_true(&definition, ESTABLISHED));
        assert_eq!(definition["status"]["acceptedNames"], names);

        let taken = Taken { resources: vec!["t".to_owned()], kinds: vec!["Thing".to_owned()] };
        settle(&mut definition, &taken, now);
        assert!(is_true(&definition, ESTABLISHED), "what it has it keeps");

        let mut other = json!({"spec": {"names": names}});
        settle(&mut other, &taken, now);
        let conditions = &other["status"]["conditions"];
        assert_eq!((&conditions[0]["reason"], &conditions[0]["status"]), (&json!("KindConflict"), &json!("False")));
        assert_eq!(conditions[0]["message"], "\"Thing\" is already in use");
        assert_eq!(conditions[1]["reason"], "NotAccepted");
        assert_eq!(other["status"]["acceptedNames"]["plural"], "things");
        assert_eq!(other["status"]["acceptedNames"].get("kind"), None);
    }
}
