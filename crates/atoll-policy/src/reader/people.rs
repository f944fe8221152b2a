//! `people`: who may do what with runs, besides the plane's administrator.

use std::collections::BTreeMap;

use crate::document::{Person, Right};
use crate::yaml::{Kind, Node};

use super::{Outcome, Reader, is_agent_name, list};

/// How many people a policy may name.
const PEOPLE_MAX: usize = 1024;
/// The one name that is taken: the plane's own administrator.
const ADMINISTRATOR: &str = "admin";

impl Reader<'_> {
    /// The `people` section: by name.
    pub(super) fn people(&self, node: &Node) -> Outcome<BTreeMap<String, Person>> {
        let Kind::Mapping(members) = &node.kind else {
            return Err(self.wrong(node, "`people`", "a mapping of people by name"));
        };
        if members.len() > PEOPLE_MAX {
            let message = format!("`people` has {} people", members.len());
            return Err(self.error(node.place, message, Some(format!("at most {PEOPLE_MAX}")), None));
        }
        let mut people: BTreeMap<String, Person> = BTreeMap::new();
        for (name, node) in members {
            if !is_agent_name(&name.text) || name.text == ADMINISTRATOR {
                let message = format!("`{}` is no name for a person", name.text);
                let expected = format!("lower-case letters, digits and `-`, at most 63, and not `{ADMINISTRATOR}`");
                return Err(self.error(name.place, message, Some(expected), None));
            }
            let (mut token_sha256, mut may) = (None, None);
            for (key, node) in self.mapping(node, &format!("the person `{}`", name.text), &["token_sha256", "may"])? {
                match key.text.as_str() {
                    "token_sha256" => token_sha256 = Some(self.token_sha256(node)?),
                    _ => may = Some(self.rights(node)?),
                }
            }
            let (Some(token_sha256), Some(may)) = (token_sha256, may) else {
                let message = format!("the person `{}` is not complete", name.text);
                return Err(self.error(name.place, message, Some("`token_sha256` and `may`".to_owned()), None));
            };
            if people.values().any(|known| known.token_sha256 == token_sha256) {
                return Err(self.error(name.place, "two people have the same token".to_owned(), None, None));
            }
            people.insert(name.text.clone(), Person { token_sha256, may });
        }
        Ok(people)
    }

    fn token_sha256(&self, node: &Node) -> Outcome<[u8; 32]> {
        let expected = "the SHA-256 of a token in hexadecimal: `printf %s TOKEN | sha256sum`";
        let text = self.text(node, "token_sha256", expected)?;
        let bytes = hex::decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.ok_or_else(|| self.wrong(node, "`token_sha256`", expected))
    }

    fn rights(&self, node: &Node) -> Outcome<Vec<Right>> {
        let known: Vec<&str> = Right::ALL.iter().map(|right| right.as_str()).collect();
        let expected = format!("one of {}", list(&known));
        let mut rights = Vec::new();
        for item in self.items(node, "may", "rights")? {
            let name = self.text(item, "may", &expected)?;
            match Right::ALL.into_iter().find(|right| right.as_str() == name) {
                Some(right) => rights.push(right),
                None => return Err(self.wrong(item, "`may`", &expected)),
            }
        }
        Ok(rights)
    }
}
