//! Reading and setting conditions: lists sorted by type, with the time of the last change of status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// `status` of a condition that holds.
pub const TRUE: &str = "True";
/// `status` of a condition that does not hold.
pub const FALSE: &str = "False";
/// `status` of a condition that nobody knows.
pub const UNKNOWN: &str = "Unknown";

/// The condition of this type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is there and holds.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == TRUE)
}

/// The reason of the condition of this type; empty when it is not there.
#[must_use]
pub fn reason<'a>(conditions: &'a [Condition], type_: &str) -> &'a str {
    find(conditions, type_).map_or("", |condition| condition.reason.as_str())
}

/// Puts a condition in its place. `lastTransitionTime` stays as it was while the status stays the same, and is the
/// given condition's else.
pub fn set(conditions: &mut Vec<Condition>, mut condition: Condition) {
    match conditions.iter_mut().find(|present| present.type_ == condition.type_) {
        Some(present) => {
            if present.status == condition.status {
                condition.last_transition_time = present.last_transition_time.clone();
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
    conditions.sort_by(|left, right| left.type_.cmp(&right.type_));
}

/// Takes the condition of this type away.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// A condition that was reached at `now`.
#[must_use]
pub fn new(
    type_: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Time,
) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: now,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("in range"))
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, new("Ready", FALSE, "A", "", Some(1), at(1)));
        set(&mut conditions, new("Ready", FALSE, "B", "", Some(2), at(2)));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("B", Some(2)));
        set(&mut conditions, new("Ready", TRUE, "C", "", Some(2), at(3)));
        assert_eq!(conditions[0].last_transition_time, at(3));
        assert!(is_true(&conditions, "Ready"));
    }

    #[test]
    fn conditions_are_sorted_by_type() {
        let mut conditions = Vec::new();
        for type_ in ["Suspended", "Finished", "Ready", "PodScheduled"] {
            set(&mut conditions, new(type_, FALSE, "A", "", None, at(1)));
        }
        let types: Vec<&str> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Finished", "PodScheduled", "Ready", "Suspended"]);
        remove(&mut conditions, "Ready");
        assert!(find(&conditions, "Ready").is_none());
        assert_eq!(reason(&conditions, "Ready"), "");
    }
}
