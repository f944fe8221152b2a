//! The table: what is asked about each subject.

mod changes;
mod creation;
mod deletion;
mod patches;
mod reading;
mod special;
mod subresources;
mod watches;

use super::exchange::{Scenario, Step};
use super::subjects::{self, Subject};

/// Every scenario of one subject.
pub(crate) fn of(subject: &str) -> Vec<Scenario> {
    let subject = subjects::subject(subject);
    let mut table = Table { subject: &subject, scenarios: Vec::new() };
    creation::add(&mut table);
    reading::add(&mut table);
    changes::add(&mut table);
    patches::add(&mut table);
    deletion::add(&mut table);
    subresources::add(&mut table);
    watches::add(&mut table);
    special::add(&mut table);
    table.scenarios
}

struct Table<'a> {
    subject: &'a Subject,
    scenarios: Vec<Scenario>,
}

impl Table<'_> {
    /// A scenario that begins with nothing.
    fn scenario(&mut self, name: &str, steps: Vec<Step>) {
        self.scenario_with(name, &[], steps);
    }

    /// A scenario that begins with some correct objects.
    fn scenario_with(&mut self, name: &str, objects: &[&str], steps: Vec<Step>) {
        let namespace = format!("{}-{}", self.subject.plural, name.replace(' ', "-"));
        let collection = self.subject.collection().replace("$ns$", &namespace);
        let before = objects.iter().map(|name| (collection.clone(), self.subject.object(name))).collect();
        self.scenarios.push(Scenario { name: name.to_owned(), namespace, before, steps });
    }
}
