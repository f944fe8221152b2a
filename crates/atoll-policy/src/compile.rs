//! The policy as Cedar: one small set of rules per agent, parsed once.

use std::fmt::Write;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, EntityId, EntityTypeName, EntityUid,
    Policy as CedarPolicy, PolicyId, PolicySet, Request, RestrictedExpression,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::document::{AgentPolicy, Governance, UnclearCommands};
use crate::facts::Facts;
use crate::tools;

/// Marks rules that hold an action back until a person approved it.
const OBLIGATION: &str = "obligation";
const REQUIRE_APPROVAL: &str = "require_approval";

/// One agent, ready to be judged.
#[derive(Debug)]
pub(crate) struct CompiledAgent {
    pub(crate) policy: AgentPolicy,
    paths: Option<GlobSet>,
    rules: PolicySet,
    /// The rules without those of `blocked_commands`, which cannot hold where no pattern fits.
    rules_unblocked: PolicySet,
    text: String,
}

/// What the rules say of a request.
#[derive(Debug)]
pub(crate) enum Ruling {
    Allow,
    /// Only approval is missing.
    NeedsApproval(Vec<String>),
    Deny(Vec<String>),
    /// No rule allows it.
    NotAllowed,
    /// A rule could not be evaluated.
    Failed(String),
}

impl CompiledAgent {
    /// Every identifier that goes into the text was checked by the reader, so the text parses.
    pub(crate) fn new(name: &str, policy: &AgentPolicy, governance: &Governance) -> Self {
        let text = rules_text(name, policy, governance);
        let rules = parse_rules(&text, |_| true);
        let rules_unblocked = parse_rules(&text, |id| !id.contains(".blocked_commands["));
        let paths = policy.allowed_paths.as_ref().map(|globs| {
            let mut set = GlobSetBuilder::new();
            for glob in globs {
                // `/workspace/**` stands for the directory itself too.
                for glob in [Some(glob.as_str()), glob.strip_suffix("/**").filter(|base| !base.is_empty())]
                    .into_iter()
                    .flatten()
                {
                    set.add(GlobBuilder::new(glob).literal_separator(true).build().expect("the reader tried it"));
                }
            }
            set.build().expect("each glob is valid")
        });
        Self { policy: policy.clone(), paths, rules, rules_unblocked, text }
    }

    /// Whether the normal absolute path is among `allowed_paths`.
    pub(crate) fn allows_path(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.is_match(path))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn judge(&self, name: &str, tool: &str, facts: &Facts, delegations: u32, approved: bool) -> Ruling {
        let ruling = self.evaluate(name, tool, facts, delegations, approved);
        match ruling {
            Ruling::Deny(rules) if !approved && rules.iter().all(|rule| self.waits(rule)) => {
                // Would it be allowed with approval?
                match self.evaluate(name, tool, facts, delegations, true) {
                    Ruling::Allow => Ruling::NeedsApproval(rules),
                    other => other,
                }
            }
            Ruling::Deny(rules) => {
                let hard: Vec<String> = rules.iter().filter(|rule| !self.waits(rule)).cloned().collect();
                Ruling::Deny(if hard.is_empty() { rules } else { hard })
            }
            other => other,
        }
    }

    fn waits(&self, rule: &str) -> bool {
        self.rules.annotation(&PolicyId::new(rule), OBLIGATION) == Some(REQUIRE_APPROVAL)
    }

    fn evaluate(&self, name: &str, tool: &str, facts: &Facts, delegations: u32, approved: bool) -> Ruling {
        let request = match cedar_request(name, tool, facts, delegations, approved) {
            Ok(request) => request,
            Err(problem) => return Ruling::Failed(problem),
        };
        let rules = if facts.blocked.is_empty() { &self.rules_unblocked } else { &self.rules };
        let response = Authorizer::new().is_authorized(&request, rules, &Entities::empty());
        if let Some(error) = response.diagnostics().errors().next() {
            return Ruling::Failed(error.to_string());
        }
        let mut rules: Vec<String> =
            response.diagnostics().reason().map(|rule| AsRef::<str>::as_ref(rule).to_owned()).collect();
        rules.sort_unstable();
        match response.decision() {
            CedarDecision::Allow => Ruling::Allow,
            CedarDecision::Deny if rules.is_empty() => Ruling::NotAllowed,
            CedarDecision::Deny => Ruling::Deny(rules),
        }
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let name = EntityTypeName::from_str(kind).expect("it is a constant name");
    EntityUid::from_type_name_and_id(name, EntityId::new(id))
}

fn cedar_request(name: &str, tool: &str, facts: &Facts, delegations: u32, approved: bool) -> Result<Request, String> {
    let flag = |name: &str, value: bool| (name.to_owned(), RestrictedExpression::new_bool(value));
    let nature = tools::nature(tool);
    let effects =
        facts.effects.union(&facts.possible).map(|effect| RestrictedExpression::new_string(effect.as_str().to_owned()));
    let blocked = facts
        .blocked
        .iter()
        .map(|position| RestrictedExpression::new_long(i64::try_from(*position).unwrap_or(i64::MAX)));
    let context = Context::from_pairs([
        flag("approved", approved),
        flag("bad_input", facts.bad_input.is_some()),
        ("blocked".to_owned(), RestrictedExpression::new_set(blocked)),
        flag("changes", nature.changes),
        flag("commands_outside", !facts.commands_outside.is_empty()),
        ("delegations".to_owned(), RestrictedExpression::new_long(i64::from(delegations))),
        ("effects".to_owned(), RestrictedExpression::new_set(effects)),
        flag("paths_outside", !facts.paths_outside.is_empty()),
        flag("touches_machine", nature.touches_machine),
        flag("unclear", !facts.unclear.is_empty()),
        flag("unknown_agent", facts.unknown_agent.is_some()),
    ])
    .map_err(|error| error.to_string())?;
    Request::new(uid("Agent", name), uid("Action", "use"), uid("Tool", tool), context, None)
        .map_err(|error| error.to_string())
}

/// The rules of one agent as Cedar text, one rule after the other, each with its id.
fn rules_text(name: &str, agent: &AgentPolicy, governance: &Governance) -> String {
    let mut rules = Rules { name, text: String::new() };
    for tool in &agent.tools {
        rules.permit(&format!("agents.{name}.tools.{tool}"), tool);
    }
    for position in 0..agent.blocked_commands.len() {
        let condition = format!("context.blocked.contains({position})");
        rules.forbid(&format!("agents.{name}.blocked_commands[{position}]"), &condition);
    }
    if agent.allow_commands.is_some() {
        rules.forbid(&format!("agents.{name}.allow_commands"), "context.commands_outside");
    }
    if agent.allowed_paths.is_some() {
        rules.forbid(&format!("agents.{name}.allowed_paths"), "context.paths_outside");
    }
    if agent.read_only {
        rules.forbid(&format!("agents.{name}.read_only"), "context.changes");
    }
    if !agent.sandboxed {
        rules.forbid(&format!("agents.{name}.sandboxed"), "context.touches_machine");
    }
    if let Some(max) = agent.max_delegations {
        let condition = format!("context.effects.contains(\"agent_delegate\") && context.delegations >= {max}");
        rules.forbid(&format!("agents.{name}.max_delegations"), &condition);
    }
    rules.forbid("input.understood", "context.bad_input");
    rules.forbid("agents.known", "context.unknown_agent");
    match governance.unclear_commands {
        UnclearCommands::Deny => rules.forbid("governance.unclear_commands", "context.unclear"),
        UnclearCommands::RequireApproval => rules.hold("governance.unclear_commands", "context.unclear"),
    }
    for effect in &governance.require_approval_for {
        let condition = format!("context.effects.contains(\"{}\")", effect.as_str());
        rules.hold(&format!("governance.require_approval_for.{}", effect.as_str()), &condition);
    }
    rules.text
}

struct Rules<'n> {
    name: &'n str,
    text: String,
}

impl Rules<'_> {
    fn permit(&mut self, id: &str, tool: &str) {
        let name = self.name;
        self.push(&format!(
            "@id(\"{id}\")\npermit (principal == Agent::\"{name}\", action == Action::\"use\", resource == Tool::\"{tool}\");\n"
        ));
    }

    fn forbid(&mut self, id: &str, condition: &str) {
        let name = self.name;
        self.push(&format!(
            "@id(\"{id}\")\nforbid (principal == Agent::\"{name}\", action, resource) when {{ {condition} }};\n"
        ));
    }

    /// Forbids until a person approved.
    fn hold(&mut self, id: &str, condition: &str) {
        let name = self.name;
        self.push(&format!(
            "@id(\"{id}\")\n@{OBLIGATION}(\"{REQUIRE_APPROVAL}\")\nforbid (principal == Agent::\"{name}\", action, resource) \
             when {{ {condition} && !context.approved }};\n"
        ));
    }

    fn push(&mut self, rule: &str) {
        writeln!(self.text, "{rule}").expect("writing to a string cannot fail");
    }
}

fn parse_rules(text: &str, wanted: impl Fn(&str) -> bool) -> PolicySet {
    let parsed = PolicySet::from_str(text).expect("the generated rules parse");
    let mut rules = PolicySet::new();
    for rule in parsed.policies() {
        let id = rule.annotation("id").expect("every generated rule has an id");
        if !wanted(id) {
            continue;
        }
        let rule: CedarPolicy = rule.new_id(PolicyId::new(id));
        rules.add(rule).expect("the ids of generated rules are unique");
    }
    rules
}
