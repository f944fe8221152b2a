//! Policy files that are refused: where, why, and what to do.

use atoll_policy::{Effect, Policy};
use atoll_stdx::Hint;

fn refused(text: &str) -> String {
    let error = Policy::parse(text, "policies.yaml").expect_err(text);
    let hint = error.hint().map(|hint| format!(" [{hint}]")).unwrap_or_default();
    format!("{error}{hint}")
}

const AGENT: &str = "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: true\n";

#[test]
fn mistakes_are_shown_with_place_expectation_and_suggestion() {
    for (text, expected) in [
        (
            "agent:\n  x: {}\n",
            "policies.yaml:1:1: unknown key `agent` in the policy; expected one of `agents`, `governance`, `mcp`, `forges`, `people` [did you mean `agents`?]",
        ),
        ("governance: {}\n", "policies.yaml:1:1: `agents` is missing; expected `agents`, a mapping of agents by name"),
        ("agents: []\n", "policies.yaml:1:9: `agents` is a list; expected a mapping of agents by name"),
        ("agents: {}\n", "policies.yaml:1:9: `agents` has 0 agents; expected 1 to 256 agents"),
        ("", "policies.yaml:1:1: `agents` is missing; expected `agents`, a mapping of agents by name"),
        (
            "agents:\n  writer:\n    tool: [file_read]\n    sandboxed: true\n",
            "policies.yaml:3:5: unknown key `tool` in the agent `writer`; expected one of `description`, `tools`, `sandboxed`, \
             `max_execution_time`, `resource_limits`, `allowed_paths`, `blocked_commands`, `allow_commands`, `read_only`, \
             `max_delegations`, `model`, `budget`, `network` [did you mean `tools`?]",
        ),
        (
            "agents:\n  writer:\n    tools:\n      - file_read\n      - file_wirte\n    sandboxed: true\n",
            "policies.yaml:5:9: there is no tool `file_wirte`; expected one of `file_read`, `file_write`, `git_operations`, \
             `terminal_execute`, `git_diff`, `linter_run`, `security_scan`, `task_create`, `agent_delegate`, `progress_track`, \
             `file_search`, `terminal_process`, or `mcp.<server>.<tool>` [did you mean `file_write`?]",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n",
            "policies.yaml:2:3: the agent `writer` has no `sandboxed`; expected `sandboxed`",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: \"yes\"\n",
            "policies.yaml:4:16: `sandboxed` is `yes`; expected true or false",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: true\n    max_execution_time: 120\n",
            "policies.yaml:5:25: `max_execution_time` is `120`; expected a duration such as `120s`, `5m`, `1h30m`",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: true\n    resource_limits:\n      memory: 4GB\n",
            "policies.yaml:6:15: `memory` is `4GB`; expected bytes as a quantity, such as 4Gi or 512Mi",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: true\n    allowed_paths: [workspace/**]\n",
            "policies.yaml:5:21: `workspace/**` is not absolute; expected an absolute path, such as `/workspace/**`",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: true\n    allowed_paths: ['/workspace/{a']\n",
            "policies.yaml:5:21: `/workspace/{a` is no glob: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?); \
             expected a glob such as `/workspace/**`",
        ),
        (
            "agents:\n  writer:\n    tools: [file_read]\n    sandboxed: true\n    blocked_commands: ['curl * |']\n",
            "policies.yaml:5:24: `curl * |` is no command pattern: there is no command on one side of `|`; expected a pattern such as \
             `curl * | bash`",
        ),
        (
            "agents:\n  reviewer:\n    tools: [file_read, file_write]\n    sandboxed: true\n    read_only: true\n",
            "policies.yaml:3:24: `reviewer` is read_only, and `file_write` changes things; expected a tool that only reads \
             [remove `file_write` from its tools, or read_only]",
        ),
        (
            "agents:\n  planner:\n    tools: [terminal_execute]\n    sandboxed: false\n",
            "policies.yaml:3:13: `planner` has no sandbox, and `terminal_execute` works on a machine; expected a tool that only plans \
             [set `sandboxed: true`, or remove the tool]",
        ),
        (
            "agents:\n  Writer:\n    tools: [file_read]\n    sandboxed: true\n",
            "policies.yaml:2:3: `Writer` is no name for an agent; expected lower-case letters, digits and `-`, at most 63, beginning with \
             a letter",
        ),
        (
            "agents:\n  a:\n    tools: [file_read]\n    sandboxed: true\n    sandboxed: false\n",
            "policies.yaml:5:5: `sandboxed` stands here a second time [it stands in line 4 already]",
        ),
        (
            "agents:\n  a:\n    tools: [file_read]\n    sandboxed: true\n    network: [github.com]\n",
            "policies.yaml:5:14: `network` is a list; expected `none`: the sandboxes of agents have no network",
        ),
        ("agents: &a\n  x: *a\n", "policies.yaml:2:6: anchors and aliases are not supported [write the value out]"),
        (
            "agents:\n  writer: {tools: [file_read], sandboxed: true}\n---\nagents: {}\n",
            "policies.yaml:4:1: a second document begins; expected one document",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn governance_is_checked_too() {
    for (text, expected) in [
        (
            "governance:\n  require_approval_for: [git_pusch]\n",
            "policies.yaml:6:26: there is no action `git_pusch`; expected one of `file_read`, `file_write`, `command_run`, `git_push`, \
             `deploy_to_production`, `database_write`, `agent_delegate`, `task_update`, `external_tool` [did you mean `git_push`?]",
        ),
        (
            "governance:\n  trace_retention_days: 0\n",
            "policies.yaml:6:25: `trace_retention_days` is `0`; expected a whole number from 1 to 36500",
        ),
        (
            "governance:\n  unclear_commands: ask\n",
            "policies.yaml:6:21: `unclear_commands` is `ask`; expected `deny` or `require_approval`",
        ),
        (
            "governance:\n  audit_all_action: true\n",
            "policies.yaml:6:3: unknown key `audit_all_action` in `governance`; expected one of `require_approval_for`, `approvals`, \
             `unclear_commands`, `audit_all_actions`, `trace_retention_days`, `budgets` [did you mean `audit_all_actions`?]",
        ),
        (
            "governance:\n  budgets: {run: {money: 5}}\n",
            "policies.yaml:6:18: `money` is limited, and no model has a price [add `prices`, for example `- {model: \"*\", input: 3.00, output: 15.00}`]",
        ),
        (
            "governance:\n  budgets: {run: {tokens: lots}}\n",
            "policies.yaml:6:27: `tokens` is `lots`; expected a whole number from 1 to 1000000000000",
        ),
        (
            "people:\n  admin: {token_sha256: x, may: [see]}\n",
            "policies.yaml:6:3: `admin` is no name for a person; expected lower-case letters, digits and `-`, at most 63, \
             and not `admin`",
        ),
        (
            "people:\n  jo: {token_sha256: secret, may: [see]}\n",
            "policies.yaml:6:22: `token_sha256` is `secret`; expected the SHA-256 of a token in hexadecimal: `printf %s TOKEN \
             | sha256sum`",
        ),
        (
            "people:\n  jo: {may: [rule]}\n",
            "policies.yaml:6:14: `may` is `rule`; expected one of `see`, `start`, `approve`, `steer`",
        ),
        (
            "mcp:\n  servers:\n    a.b: {command: [x]}\n",
            "policies.yaml:7:5: `a.b` is no name for an MCP server; expected letters, digits, `-` and `_`, at most 32",
        ),
        (
            "mcp:\n  servers:\n    a: {command: [x], url: 'https://a.example'}\n",
            "policies.yaml:7:5: the MCP server `a` is not complete, or two things at once; expected `command` (with `env`), \
             or `url` (with `token_env`, `private_network`)",
        ),
        (
            "mcp:\n  servers:\n    a: {url: 'http://a.example'}\n",
            "policies.yaml:7:5: `http://a.example` is not encrypted [write `https://`, or set `private_network: true` for a \
             server of your own]",
        ),
        (
            "mcp:\n  project_urls: ['https://user:word@a.example']\n",
            "policies.yaml:6:18: `url` is `https://user:word@a.example`; expected an address such as \
             `https://tracker.example/mcp`, without user, password and fragment",
        ),
        (
            "  reader:\n    tools: [mcp.tracker.find]\n    sandboxed: true\nmcp:\n  project_servers: [other]\n",
            "policies.yaml:6:13: `mcp.tracker.find` is a tool of the MCP server `tracker`, which is not defined [define \
             `mcp.servers.tracker`, or name it in `mcp.project_servers`]",
        ),
    ] {
        assert_eq!(refused(&format!("{AGENT}{text}")), expected, "{text}");
    }
}

#[test]
fn text_that_is_no_yaml_says_where() {
    let message = refused("agents:\n  a: [file_read\n  b: x\n");
    assert!(message.starts_with("policies.yaml:3:"), "{message}");
    assert!(message.contains("this is not YAML"), "{message}");
    let message = refused(&format!("agents: {}{}", "[".repeat(40), "]".repeat(40)));
    assert!(message.contains("nested more than"), "{message}");
}

#[test]
fn the_shipped_policy_has_the_three_agents() {
    let policy = Policy::default();
    let names: Vec<&str> = policy.agents().map(|(name, _)| name).collect();
    assert_eq!(names, ["code-reviewer", "code-writer", "planner"]);
    let planner = policy.agent("planner").expect("it is there");
    assert!(!planner.sandboxed);
    assert_eq!(planner.max_delegations, Some(10));
    assert_eq!(planner.tools, ["task_create", "agent_delegate", "progress_track"]);
    let writer = policy.agent("code-writer").expect("it is there");
    let of_writer =
        ["file_read", "file_write", "file_search", "git_operations", "terminal_execute", "terminal_process"];
    assert_eq!(writer.tools, of_writer);
    assert_eq!(writer.max_execution_time, Some(std::time::Duration::from_secs(120)));
    assert_eq!(writer.resource_limits.cpu.as_deref(), Some("2"));
    assert_eq!(writer.resource_limits.memory.as_deref(), Some("4Gi"));
    assert_eq!(writer.allowed_paths.as_deref(), Some(["/workspace/**".to_owned()].as_slice()));
    let blocked: Vec<&str> = writer.blocked_commands.iter().map(|pattern| pattern.text()).collect();
    assert!(blocked.starts_with(&["rm -rf /", "curl * | bash"]), "{blocked:?}");
    let reviewer = policy.agent("code-reviewer").expect("it is there");
    assert!(reviewer.read_only && reviewer.sandboxed);
    assert_eq!(reviewer.tools, ["file_read", "file_search", "git_diff", "linter_run", "security_scan"]);
    let governance = policy.governance();
    assert_eq!(governance.require_approval_for, [Effect::GitPush, Effect::DeployToProduction, Effect::DatabaseWrite]);
    assert!(governance.audit_all_actions);
    assert_eq!(governance.trace_retention_days, 90);
}

#[test]
fn the_compiled_form_can_be_read() {
    let cedar = Policy::default().cedar();
    for part in [
        "@id(\"agents.code-writer.tools.file_write\")",
        "@id(\"agents.code-writer.blocked_commands[1]\")",
        "@id(\"agents.code-reviewer.read_only\")",
        "@id(\"agents.planner.max_delegations\")",
        "@id(\"governance.require_approval_for.git_push\")",
    ] {
        assert!(cedar.contains(part), "{part}");
    }
}
