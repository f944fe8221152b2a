//! A compiled policy: parse once, decide often.

use std::collections::BTreeMap;

use crate::action::{ActionRequest, Decision, Effect, Verdict};
use crate::compile::{CompiledAgent, Ruling};
use crate::digest::{input_digest, sha256_hex};
use crate::document::{AgentPolicy, Forge, Governance, McpPolicy, Person, known_forge};
use crate::error::PolicyError;
use crate::facts::{self, Facts};
use crate::reader;

/// The policy that is shipped with Atoll: planner, code-writer, code-reviewer.
pub const DEFAULT_POLICY_YAML: &str = include_str!("../policies.yaml");

/// How many findings of one kind a reason spells out.
const FINDINGS_SHOWN_MAX: usize = 3;

/// A policy, checked and compiled. Cheap to share behind an `Arc`; every method takes `&self`.
#[derive(Debug)]
pub struct Policy {
    agents: BTreeMap<String, CompiledAgent>,
    governance: Governance,
    mcp: McpPolicy,
    forges: BTreeMap<String, Forge>,
    people: BTreeMap<String, Person>,
    hash: String,
}

impl Policy {
    /// Reads a `policies.yaml`. `file_name` is used in errors only.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and column: YAML that does not parse, an unknown or repeated key,
    /// a value of the wrong kind, an unknown tool or effect, a bad glob or pattern, agents that contradict themselves.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        let document = reader::read(text, file_name)?;
        let compile = |(name, agent): (&String, &AgentPolicy)| {
            (name.clone(), CompiledAgent::new(name, agent, &document.governance))
        };
        let agents = document.agents.iter().map(compile).collect();
        Ok(Self {
            agents,
            governance: document.governance,
            mcp: document.mcp,
            forges: document.forges,
            people: document.people,
            hash: sha256_hex(text.as_bytes()),
        })
    }

    /// The agent of that name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&AgentPolicy> {
        self.agents.get(name).map(|agent| &agent.policy)
    }

    /// Every agent by name, sorted.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &AgentPolicy)> {
        self.agents.iter().map(|(name, agent)| (name.as_str(), &agent.policy))
    }

    /// What holds for all agents.
    #[must_use]
    pub fn governance(&self) -> &Governance {
        &self.governance
    }

    /// The MCP servers that it knows.
    #[must_use]
    pub fn mcp(&self) -> &McpPolicy {
        &self.mcp
    }

    /// The forge at a host, with its port where the address of a remote has one.
    #[must_use]
    pub fn forge(&self, host: &str) -> Option<Forge> {
        let host = host.to_ascii_lowercase();
        self.forges.get(&host).cloned().or_else(|| known_forge(&host))
    }

    /// Who a token with this SHA-256 stands for.
    #[must_use]
    pub fn person(&self, token_sha256: &[u8; 32]) -> Option<(&str, &Person)> {
        let found = self.people.iter().find(|(_, person)| person.token_sha256 == *token_sha256);
        found.map(|(name, person)| (name.as_str(), person))
    }

    /// SHA-256 of the policy's text, lower-case hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The compiled form, for people: Cedar policies with their rule ids.
    #[must_use]
    pub fn cedar(&self) -> String {
        self.agents.iter().map(|(name, agent)| format!("// {name}\n\n{}", agent.text())).collect()
    }

    /// Judges one action. Never fails: what cannot be judged is denied.
    #[must_use]
    pub fn decide(&self, request: &ActionRequest<'_>) -> Decision {
        let Some(agent) = self.agents.get(request.agent) else {
            let names: Vec<&str> = self.agents.keys().map(String::as_str).collect();
            let reason = format!("The policy has no agent `{}`.", request.agent);
            let hint = format!("the policy's agents are {}", names.join(", "));
            return self.answer(
                request,
                &Facts::default(),
                Verdict::Deny,
                vec!["agents.known".to_owned()],
                reason,
                Some(hint),
            );
        };
        let facts = facts::gather(request, agent, |name| self.agents.contains_key(name));
        let explain = Explanation { request, facts: &facts, agent };
        match agent.judge(request.agent, request.tool, &facts, request.delegations, request.approved) {
            Ruling::Allow => {
                let rule = format!("agents.{}.tools.{}", request.agent, request.tool);
                let reason = format!(
                    "`{}` may use `{}`{}.",
                    request.agent,
                    request.tool,
                    if request.approved { ", and a person approved it" } else { "" }
                );
                self.answer(request, &facts, Verdict::Allow, vec![rule], reason, None)
            }
            Ruling::NeedsApproval(rules) => {
                let reason = explain.reasons(&rules);
                let hint = Some("a person can approve it with `atoll approve`".to_owned());
                self.answer(request, &facts, Verdict::RequireApproval, rules, reason, hint)
            }
            Ruling::Deny(rules) => {
                let (reason, hint) = (explain.reasons(&rules), explain.hint(&rules));
                self.answer(request, &facts, Verdict::Deny, rules, reason, hint)
            }
            Ruling::NotAllowed => {
                let rule = format!("agents.{}.tools", request.agent);
                let reason = format!("`{}` is not among the tools of `{}`.", request.tool, request.agent);
                let hint = format!("its tools are {}; another agent may have it", agent.policy.tools.join(", "));
                self.answer(request, &facts, Verdict::Deny, vec![rule], reason, Some(hint))
            }
            Ruling::Failed(problem) => {
                let reason = format!("The rules could not be evaluated: {problem}.");
                self.answer(request, &facts, Verdict::Deny, vec!["rules.evaluated".to_owned()], reason, None)
            }
        }
    }

    fn answer(
        &self,
        request: &ActionRequest<'_>,
        facts: &Facts,
        verdict: Verdict,
        rule_ids: Vec<String>,
        reason: String,
        hint: Option<String>,
    ) -> Decision {
        Decision {
            verdict,
            rule_ids,
            reason,
            hint,
            effects: facts.effects.union(&facts.possible).copied().collect(),
            policy_hash: self.hash.clone(),
            input_digest: input_digest(request.input),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::parse(DEFAULT_POLICY_YAML, "policies.yaml").expect("the shipped policy is valid")
    }
}

/// Puts rules into words.
struct Explanation<'a> {
    request: &'a ActionRequest<'a>,
    facts: &'a Facts,
    agent: &'a CompiledAgent,
}

impl Explanation<'_> {
    fn reasons(&self, rules: &[String]) -> String {
        let sentences: Vec<String> = rules.iter().map(|rule| self.reason(rule)).collect();
        sentences.join(" ")
    }

    fn reason(&self, rule: &str) -> String {
        let Self { request, facts, agent } = self;
        let name = request.agent;
        if let Some(position) = blocked_position(rule) {
            let pattern = agent.policy.blocked_commands.get(position).map_or("", |pattern| pattern.text());
            return format!("The command is blocked for `{name}` by the pattern `{pattern}`.");
        }
        if let Some(effect) = rule.strip_prefix("governance.require_approval_for.") {
            let certain = facts.effects.iter().any(|known: &Effect| known.as_str() == effect);
            let (does, why) = if certain { ("is", "") } else { ("may be", ", as far as can be told before it runs") };
            return format!("This {does} `{effect}`{why}, which needs a person's approval.");
        }
        match rule.rsplit('.').next().unwrap_or(rule) {
            "unclear_commands" => {
                format!("The command cannot be judged before it runs: {}.", shown(&facts.unclear, "; "))
            }
            "allowed_paths" => {
                format!("{} is outside of the paths of `{name}`.", shown(&quoted(&facts.paths_outside), ", "))
            }
            "allow_commands" => format!(
                "{} is not among the commands that `{name}` may run.",
                shown(&quoted(&facts.commands_outside), ", ")
            ),
            "read_only" => format!("`{name}` is read-only, and `{}` can change things.", request.tool),
            "sandboxed" => format!("`{name}` has no sandbox, so it may only plan."),
            "max_delegations" => {
                let max = agent.policy.max_delegations.unwrap_or_default();
                format!("`{name}` has used up its {max} delegations.")
            }
            "understood" => {
                format!("The input cannot be judged: {}.", facts.bad_input.as_deref().unwrap_or("it is malformed"))
            }
            "known" => format!("There is no agent `{}`.", facts.unknown_agent.as_deref().unwrap_or_default()),
            _ => format!("The rule `{rule}` forbids it."),
        }
    }

    fn hint(&self, rules: &[String]) -> Option<String> {
        let rule = rules.first()?;
        if blocked_position(rule).is_some() {
            return Some("do it another way; sudo, env or another shell change nothing about it".to_owned());
        }
        match rule.rsplit('.').next()? {
            "unclear_commands" => {
                Some("write program, flags and paths out literally, one plain command at a time".to_owned())
            }
            "allowed_paths" => {
                let paths = self.agent.policy.allowed_paths.as_deref().unwrap_or_default();
                Some(if paths.is_empty() {
                    "no path is allowed".to_owned()
                } else {
                    format!("stay within {}", paths.join(", "))
                })
            }
            "allow_commands" => {
                let patterns = self.agent.policy.allow_commands.as_deref().unwrap_or_default();
                Some(format!("it may run {}", quoted_patterns(patterns)))
            }
            "read_only" => Some("hand the change to an agent that may write".to_owned()),
            "max_delegations" => Some("do the rest with what the agents have reported".to_owned()),
            "known" => Some("use the name of an agent of the policy".to_owned()),
            _ => None,
        }
    }
}

fn blocked_position(rule: &str) -> Option<usize> {
    rule.split_once(".blocked_commands[")?.1.strip_suffix(']')?.parse().ok()
}

fn quoted(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| format!("`{text}`")).collect()
}

fn quoted_patterns(patterns: &[crate::CommandPattern]) -> String {
    patterns.iter().map(|pattern| format!("`{}`", pattern.text())).collect::<Vec<_>>().join(", ")
}

fn shown(texts: &[String], separator: &str) -> String {
    let mut text = texts.iter().take(FINDINGS_SHOWN_MAX).cloned().collect::<Vec<_>>().join(separator);
    if texts.len() > FINDINGS_SHOWN_MAX {
        text.push_str(&format!("{separator}and {} more", texts.len() - FINDINGS_SHOWN_MAX));
    }
    text
}
