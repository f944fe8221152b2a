//! From YAML to a checked document: every key known, every value of its kind, no agent that contradicts itself.

mod budgets;
mod forges;
mod mcp;
mod people;

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobBuilder;

use crate::action::Effect;
use crate::document::{AgentPolicy, Governance, McpPolicy, PolicyDocument, ResourceLimits, UnclearCommands};
use crate::error::PolicyError;
use crate::shell::pattern::CommandPattern;
use crate::tools;
use crate::yaml::{self, Key, Kind, Node, Place};

/// How many agents a policy may have.
const AGENTS_MAX: usize = 256;
/// How many entries a list may have.
const LIST_ENTRIES_MAX: usize = 1024;
/// Two words are taken for the same misspelt one up to so many changed letters.
const TYPO_DISTANCE_MAX: usize = 3;

const AGENT_KEYS: [&str; 13] = [
    "description",
    "tools",
    "sandboxed",
    "max_execution_time",
    "resource_limits",
    "allowed_paths",
    "blocked_commands",
    "allow_commands",
    "read_only",
    "max_delegations",
    "model",
    "budget",
    "network",
];
const GOVERNANCE_KEYS: [&str; 6] =
    ["require_approval_for", "approvals", "unclear_commands", "audit_all_actions", "trace_retention_days", "budgets"];

pub(crate) use mcp::is_mcp_url;

pub(crate) fn read(text: &str, file: &str) -> Result<PolicyDocument, PolicyError> {
    let root = yaml::parse(text, file)?;
    let reader = Reader { file };
    let members = reader.mapping(&root, "the policy", &["agents", "governance", "mcp", "forges", "people"])?;
    let mut agents = None;
    let mut mcp = McpPolicy::default();
    let mut forges = BTreeMap::new();
    let mut people = BTreeMap::new();
    let mut governance = Governance::default();
    for (key, node) in members {
        match key.text.as_str() {
            "agents" => agents = Some((node, reader.agents(node)?)),
            "mcp" => mcp = reader.mcp(node)?,
            "forges" => forges = reader.forges(node)?,
            "people" => people = reader.people(node)?,
            _ => governance = reader.governance(node)?,
        }
    }
    let Some((agents_node, agents)) = agents else {
        let expected = Some("`agents`, a mapping of agents by name".to_owned());
        return Err(reader.error(root.place, "`agents` is missing".to_owned(), expected, None));
    };
    reader.check_servers(agents_node, &mcp)?;
    Ok(PolicyDocument { agents, governance, mcp, forges, people })
}

pub(crate) struct Reader<'f> {
    pub(crate) file: &'f str,
}

pub(crate) type Outcome<T> = Result<T, PolicyError>;

impl Reader<'_> {
    pub(crate) fn error(
        &self,
        place: Place,
        message: String,
        expected: Option<String>,
        hint: Option<String>,
    ) -> PolicyError {
        PolicyError { file: self.file.to_owned(), line: place.line, column: place.column, message, expected, hint }
    }

    fn wrong(&self, node: &Node, what: &str, expected: &str) -> PolicyError {
        self.error(node.place, format!("{what} is {}", node.describe()), Some(expected.to_owned()), None)
    }

    pub(crate) fn mapping<'n>(&self, node: &'n Node, what: &str, known: &[&str]) -> Outcome<&'n [(Key, Node)]> {
        let Kind::Mapping(members) = &node.kind else {
            return Err(self.wrong(node, what, &format!("a mapping with {}", list(known))));
        };
        for (key, _) in members {
            if !known.contains(&key.text.as_str()) {
                let message = format!("unknown key `{}` in {what}", key.text);
                let expected = Some(format!("one of {}", list(known)));
                return Err(self.error(key.place, message, expected, suggestion(&key.text, known)));
            }
        }
        Ok(members)
    }

    pub(crate) fn items<'n>(&self, node: &'n Node, what: &str, of: &str) -> Outcome<&'n [Node]> {
        match &node.kind {
            Kind::Sequence(items) if items.len() <= LIST_ENTRIES_MAX => Ok(items),
            Kind::Sequence(items) => {
                let message = format!("`{what}` has {} entries", items.len());
                Err(self.error(node.place, message, Some(format!("at most {LIST_ENTRIES_MAX}")), None))
            }
            _ => Err(self.wrong(node, &format!("`{what}`"), &format!("a list of {of}"))),
        }
    }

    pub(crate) fn text<'n>(&self, node: &'n Node, what: &str, expected: &str) -> Outcome<&'n str> {
        match &node.kind {
            Kind::Scalar { text, .. } if node.describe() != "nothing" && !text.is_empty() => Ok(text),
            _ => Err(self.wrong(node, &format!("`{what}`"), expected)),
        }
    }

    pub(crate) fn boolean(&self, node: &Node, what: &str) -> Outcome<bool> {
        match &node.kind {
            Kind::Scalar { text, plain: true } if text == "true" => Ok(true),
            Kind::Scalar { text, plain: true } if text == "false" => Ok(false),
            _ => Err(self.wrong(node, &format!("`{what}`"), "true or false")),
        }
    }

    fn number(&self, node: &Node, what: &str, range: std::ops::RangeInclusive<u32>) -> Outcome<u32> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let text = self.text(node, what, &expected)?;
        let number = text.parse::<u32>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| self.wrong(node, &format!("`{what}`"), &expected))
    }

    fn duration(&self, node: &Node, what: &str) -> Outcome<Duration> {
        let expected = "a duration such as `120s`, `5m`, `1h30m`";
        let text = self.text(node, what, expected)?;
        parse_duration(text).ok_or_else(|| self.wrong(node, &format!("`{what}`"), expected))
    }

    fn agents(&self, node: &Node) -> Outcome<BTreeMap<String, AgentPolicy>> {
        let Kind::Mapping(members) = &node.kind else {
            return Err(self.wrong(node, "`agents`", "a mapping of agents by name"));
        };
        if members.is_empty() || members.len() > AGENTS_MAX {
            let message = format!("`agents` has {} agents", members.len());
            return Err(self.error(node.place, message, Some(format!("1 to {AGENTS_MAX} agents")), None));
        }
        let mut agents = BTreeMap::new();
        for (key, node) in members {
            if !is_agent_name(&key.text) {
                let message = format!("`{}` is no name for an agent", key.text);
                let expected = "lower-case letters, digits and `-`, at most 63, beginning with a letter".to_owned();
                return Err(self.error(key.place, message, Some(expected), None));
            }
            agents.insert(key.text.clone(), self.agent(key, node)?);
        }
        Ok(agents)
    }

    fn agent(&self, name: &Key, node: &Node) -> Outcome<AgentPolicy> {
        let members = self.mapping(node, &format!("the agent `{}`", name.text), &AGENT_KEYS)?;
        let mut agent = AgentPolicy::empty();
        let mut tool_places = Vec::new();
        let mut has_sandboxed = false;
        for (key, node) in members {
            match key.text.as_str() {
                "description" => agent.description = self.text(node, "description", "a sentence")?.to_owned(),
                "tools" => (agent.tools, tool_places) = self.tools(node)?,
                "sandboxed" => {
                    agent.sandboxed = self.boolean(node, "sandboxed")?;
                    has_sandboxed = true;
                }
                "max_execution_time" => agent.max_execution_time = Some(self.duration(node, "max_execution_time")?),
                "resource_limits" => agent.resource_limits = self.resource_limits(node)?,
                "allowed_paths" => agent.allowed_paths = Some(self.paths(node)?),
                "blocked_commands" => agent.blocked_commands = self.patterns(node, "blocked_commands")?,
                "allow_commands" => agent.allow_commands = Some(self.patterns(node, "allow_commands")?),
                "read_only" => agent.read_only = self.boolean(node, "read_only")?,
                "max_delegations" => agent.max_delegations = Some(self.number(node, "max_delegations", 0..=10_000)?),
                "budget" => agent.budget = self.budget(node, "`budget`")?,
                "model" => agent.model = Some(self.text(node, "model", "a model's name")?.to_owned()),
                _ => self.network(node)?,
            }
        }
        for (missing, is_there) in [("tools", !agent.tools.is_empty()), ("sandboxed", has_sandboxed)] {
            if !is_there && !members.iter().any(|(key, _)| key.text == missing) {
                let message = format!("the agent `{}` has no `{missing}`", name.text);
                return Err(self.error(name.place, message, Some(format!("`{missing}`")), None));
            }
        }
        self.check_contradictions(&name.text, &agent, &tool_places)?;
        Ok(agent)
    }

    /// Tools that the rest of the entry forbids anyway are a mistake of its author.
    fn check_contradictions(&self, name: &str, agent: &AgentPolicy, places: &[Place]) -> Outcome<()> {
        for (tool, place) in agent.tools.iter().zip(places) {
            let nature = tools::nature(tool);
            if agent.read_only && nature.changes {
                let message = format!("`{name}` is read_only, and `{tool}` changes things");
                let hint = Some(format!("remove `{tool}` from its tools, or read_only"));
                return Err(self.error(*place, message, Some("a tool that only reads".to_owned()), hint));
            }
            if !agent.sandboxed && nature.touches_machine {
                let message = format!("`{name}` has no sandbox, and `{tool}` works on a machine");
                let hint = Some("set `sandboxed: true`, or remove the tool".to_owned());
                return Err(self.error(*place, message, Some("a tool that only plans".to_owned()), hint));
            }
        }
        Ok(())
    }

    pub(crate) fn tools(&self, node: &Node) -> Outcome<(Vec<String>, Vec<Place>)> {
        let mut names: Vec<String> = Vec::new();
        let mut places = Vec::new();
        for item in self.items(node, "tools", "tool names")? {
            let name = self.text(item, "tools", "a tool's name")?;
            if !tools::is_known(name) {
                let message = format!("there is no tool `{name}`");
                let expected = format!("one of {}, or `mcp.<server>.<tool>`", list(&tools::ALL));
                return Err(self.error(item.place, message, Some(expected), suggestion(name, &tools::ALL)));
            }
            if names.iter().any(|earlier| earlier == name) {
                return Err(self.error(item.place, format!("the tool `{name}` stands here a second time"), None, None));
            }
            names.push(name.to_owned());
            places.push(item.place);
        }
        Ok((names, places))
    }

    fn resource_limits(&self, node: &Node) -> Outcome<ResourceLimits> {
        let mut limits = ResourceLimits::default();
        for (key, node) in self.mapping(node, "`resource_limits`", &["cpu", "memory"])? {
            if key.text == "cpu" {
                let expected = "processors as a quantity, such as \"2\" or 500m";
                let text = self.text(node, "cpu", expected)?;
                if !is_quantity(text, &["", "m"]) {
                    return Err(self.wrong(node, "`cpu`", expected));
                }
                limits.cpu = Some(text.to_owned());
            } else {
                let expected = "bytes as a quantity, such as 4Gi or 512Mi";
                let text = self.text(node, "memory", expected)?;
                if !is_quantity(text, &["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]) {
                    return Err(self.wrong(node, "`memory`", expected));
                }
                limits.memory = Some(text.to_owned());
            }
        }
        Ok(limits)
    }

    fn paths(&self, node: &Node) -> Outcome<Vec<String>> {
        let mut globs = Vec::new();
        for item in self.items(node, "allowed_paths", "globs")? {
            let glob = self.text(item, "allowed_paths", "a glob of absolute paths")?;
            if !glob.starts_with('/') {
                let expected = Some("an absolute path, such as `/workspace/**`".to_owned());
                return Err(self.error(item.place, format!("`{glob}` is not absolute"), expected, None));
            }
            if glob.split('/').any(|part| part == ".." || part == ".") {
                let message = format!("`{glob}` has `.` or `..` in it, and would never fit");
                return Err(self.error(item.place, message, Some("a path without them".to_owned()), None));
            }
            if let Err(error) = GlobBuilder::new(glob).literal_separator(true).build() {
                let message = format!("`{glob}` is no glob: {}", error.kind());
                return Err(self.error(item.place, message, Some("a glob such as `/workspace/**`".to_owned()), None));
            }
            globs.push(glob.to_owned());
        }
        Ok(globs)
    }

    fn patterns(&self, node: &Node, what: &str) -> Outcome<Vec<CommandPattern>> {
        let mut patterns = Vec::new();
        for item in self.items(node, what, "command patterns")? {
            let text = self.text(item, what, "a command pattern such as `rm -rf /`")?;
            let pattern = CommandPattern::parse(text).map_err(|problem| {
                let message = format!("`{text}` is no command pattern: {problem}");
                self.error(item.place, message, Some("a pattern such as `curl * | bash`".to_owned()), None)
            })?;
            patterns.push(pattern);
        }
        Ok(patterns)
    }

    fn network(&self, node: &Node) -> Outcome<()> {
        let expected = "`none`: the sandboxes of agents have no network";
        match self.text(node, "network", expected)? {
            "none" => Ok(()),
            _ => Err(self.wrong(node, "`network`", expected)),
        }
    }

    fn governance(&self, node: &Node) -> Outcome<Governance> {
        let mut governance = Governance::default();
        for (key, node) in self.mapping(node, "`governance`", &GOVERNANCE_KEYS)? {
            match key.text.as_str() {
                "require_approval_for" => governance.require_approval_for = self.effects(node)?,
                "approvals" => {
                    for (_, node) in self.mapping(node, "`approvals`", &["expiry"])? {
                        governance.approval_expiry = self.duration(node, "expiry")?;
                    }
                }
                "unclear_commands" => {
                    let expected = "`deny` or `require_approval`";
                    governance.unclear_commands = match self.text(node, "unclear_commands", expected)? {
                        "deny" => UnclearCommands::Deny,
                        "require_approval" => UnclearCommands::RequireApproval,
                        _ => return Err(self.wrong(node, "`unclear_commands`", expected)),
                    };
                }
                "budgets" => governance.budgets = self.budgets(node)?,
                "audit_all_actions" => governance.audit_all_actions = self.boolean(node, "audit_all_actions")?,
                _ => governance.trace_retention_days = self.number(node, "trace_retention_days", 1..=36_500)?,
            }
        }
        Ok(governance)
    }

    fn effects(&self, node: &Node) -> Outcome<Vec<Effect>> {
        let known: Vec<&str> = Effect::ALL.iter().map(|effect| effect.as_str()).collect();
        let mut effects = Vec::new();
        for item in self.items(node, "require_approval_for", "actions")? {
            let name = self.text(item, "require_approval_for", "an action")?;
            let Some(effect) = Effect::from_name(name) else {
                let expected = Some(format!("one of {}", list(&known)));
                return Err(self.error(
                    item.place,
                    format!("there is no action `{name}`"),
                    expected,
                    suggestion(name, &known),
                ));
            };
            if !effects.contains(&effect) {
                effects.push(effect);
            }
        }
        Ok(effects)
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// `did you mean …` for the nearest known word.
fn suggestion(word: &str, known: &[&str]) -> Option<String> {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(&folded, known), known)).min()?;
    let near_enough = nearest.0 <= TYPO_DISTANCE_MAX && nearest.0 < nearest.1.len().div_ceil(2).max(2);
    near_enough.then(|| format!("did you mean `{}`?", nearest.1))
}

pub(crate) fn is_agent_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}

fn is_quantity(text: &str, suffixes: &[&str]) -> bool {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    number.parse::<f64>().is_ok_and(|number| number > 0.0) && suffixes.contains(&suffix)
}

/// `1h30m`, `120s`, `500ms`; units from the largest down are not demanded.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_length = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let unit_ms: u64 = match &rest[..unit_length] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[unit_length..];
        total = total.checked_add(Duration::from_millis(number.checked_mul(unit_ms)?))?;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected_ms) in [
            ("120s", Some(120_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("2d", Some(172_800_000)),
            ("120", None),
            ("s", None),
            ("0s", None),
            ("1x", None),
            ("99999999999999999999s", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(parse_duration(text).map(|duration| duration.as_millis() as u64), expected_ms, "{text}");
        }
    }
}
