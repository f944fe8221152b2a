//! What an action comes to, before any rule is asked: its effects, the paths it names, the commands it runs.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::action::{ActionRequest, DEFAULT_CWD, Effect};
use crate::compile::CompiledAgent;
use crate::effects;
use crate::path::join;
use crate::shell::pattern::Fit;
use crate::shell::{Command, FileUse, Input, Script, Word, analyse};
use crate::tools;

/// Files of every machine that a redirection may name whatever the policy's paths are.
const HARMLESS_FILES: [&str; 6] = ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/zero", "/dev/tty"];

/// What the rules look at.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) effects: BTreeSet<Effect>,
    /// Effects that the action may or may not have.
    pub(crate) possible: BTreeSet<Effect>,
    /// Positions of the blocked patterns that fit.
    pub(crate) blocked: Vec<usize>,
    /// Paths outside of `allowed_paths`.
    pub(crate) paths_outside: Vec<String>,
    /// Commands that no allowing pattern describes.
    pub(crate) commands_outside: Vec<String>,
    /// What could not be understood of a command.
    pub(crate) unclear: Vec<String>,
    /// Why the input cannot be judged at all.
    pub(crate) bad_input: Option<String>,
    /// The agent that a task would go to, if there is none of that name.
    pub(crate) unknown_agent: Option<String>,
}

pub(crate) fn gather(request: &ActionRequest<'_>, agent: &CompiledAgent, knows_agent: impl Fn(&str) -> bool) -> Facts {
    let mut facts = Facts::default();
    let asked = request.input.get("cwd").and_then(Value::as_str).filter(|_| request.tool == "terminal_execute");
    let cwd = request.cwd.map_or_else(|| join(DEFAULT_CWD, asked.unwrap_or_default()), |cwd| join(cwd, ""));
    let gatherer = Gatherer { input: request.input, cwd: &cwd, agent };
    match request.tool {
        "file_read" => {
            facts.effects.insert(Effect::FileRead);
            gatherer.path(&mut facts);
        }
        "file_write" => {
            facts.effects.insert(Effect::FileWrite);
            gatherer.path(&mut facts);
        }
        "terminal_execute" => gatherer.terminal(&mut facts),
        "git_operations" => gatherer.git_operations(&mut facts),
        "git_diff" => {
            facts.effects.insert(Effect::FileRead);
            gatherer.paths(&mut facts);
            gatherer.no_option("base", &mut facts);
        }
        "terminal_process" => {
            facts.effects.insert(Effect::CommandRun);
            gatherer.typed(&mut facts);
        }
        "linter_run" | "security_scan" | "file_search" => {
            facts.effects.insert(Effect::FileRead);
            gatherer.paths(&mut facts);
        }
        "task_create" | "progress_track" => {
            facts.effects.insert(Effect::TaskUpdate);
        }
        "agent_delegate" => {
            facts.effects.insert(Effect::AgentDelegate);
            match request.input.get("agent").and_then(Value::as_str) {
                Some(target) if !knows_agent(target) => facts.unknown_agent = Some(target.to_owned()),
                Some(_) => {}
                None => facts.bad_input = Some("`agent` is not given".to_owned()),
            }
        }
        tool if tools::is_external(tool) => {
            facts.effects.insert(Effect::ExternalTool);
        }
        _ => {}
    }
    if !request.input.is_object() {
        facts.bad_input = Some("the input is not an object".to_owned());
    }
    facts
}

struct Gatherer<'a> {
    input: &'a Value,
    cwd: &'a str,
    agent: &'a CompiledAgent,
}

impl Gatherer<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.input.get(name).and_then(Value::as_str)
    }

    fn path(&self, facts: &mut Facts) {
        match self.text("path") {
            Some(path) => self.check_path(path, facts),
            None => facts.bad_input = Some("`path` is not given".to_owned()),
        }
    }

    fn paths(&self, facts: &mut Facts) {
        match self.input.get("paths") {
            None | Some(Value::Null) => {}
            Some(Value::Array(paths)) => {
                for path in paths {
                    match path.as_str() {
                        Some(path) if path.starts_with('-') || path.starts_with(':') => {
                            facts.bad_input =
                                Some(format!("the path `{path}` would be read as an option; write `./{path}`"));
                        }
                        Some(path) => self.check_path(path, facts),
                        None => facts.bad_input = Some("`paths` holds something that is no path".to_owned()),
                    }
                }
            }
            Some(_) => facts.bad_input = Some("`paths` is not a list".to_owned()),
        }
    }

    /// A value that must not be read as an option by the program it goes to.
    fn no_option(&self, name: &str, facts: &mut Facts) {
        if let Some(text) = self.text(name).filter(|text| text.starts_with('-')) {
            facts.bad_input = Some(format!("`{name}` is `{text}`, which would be read as an option"));
        }
    }

    fn check_path(&self, path: &str, facts: &mut Facts) {
        if path.is_empty() || path.contains('\0') {
            facts.bad_input = Some("a path is empty or holds a zero byte".to_owned());
            return;
        }
        let absolute = join(self.cwd, path);
        if !self.agent.allows_path(&absolute) {
            facts.paths_outside.push(absolute);
        }
    }

    fn git_operations(&self, facts: &mut Facts) {
        let Some(operation) = self.text("operation") else {
            facts.bad_input = Some("`operation` is not given".to_owned());
            return;
        };
        self.paths(facts);
        self.no_option("name", facts);
        let effect = match operation {
            "status" | "log" | "diff" | "show" => Effect::FileRead,
            "push" => Effect::GitPush,
            _ => Effect::FileWrite,
        };
        facts.effects.insert(effect);
        let values = ["name", "message"].into_iter().filter_map(|name| self.text(name));
        let words = ["git", operation].into_iter().chain(values).map(Word::literal).collect();
        let command = Command {
            words,
            cwd: vec![self.cwd.to_owned()],
            input: Input::Nothing,
            replaced: false,
            runs_made_file: false,
        };
        let text = command.display();
        let script = Script { commands: vec![command], ..Script::default() };
        self.judge_script(&text, &script, facts);
    }

    /// What is typed to a running program is judged as if a shell read it. Where it is no shell, what is odd about it as a
    /// script means nothing.
    fn typed(&self, facts: &mut Facts) {
        if let Some(text) = self.text("text") {
            let unclear = std::mem::take(&mut facts.unclear);
            self.judge_script(text, &analyse(text, self.cwd, None), facts);
            facts.unclear = unclear;
        }
    }

    fn terminal(&self, facts: &mut Facts) {
        facts.effects.insert(Effect::CommandRun);
        let Some(command) = self.text("command") else {
            facts.bad_input = Some("`command` is not given".to_owned());
            return;
        };
        self.check_path(self.cwd, facts);
        let script = analyse(command, self.cwd, self.text("stdin"));
        self.judge_script(command, &script, facts);
        for file in &script.files {
            self.check_file(file, facts);
        }
        facts.unclear.extend(script.problems);
    }

    fn judge_script(&self, source: &str, script: &Script, facts: &mut Facts) {
        for (position, pattern) in self.agent.policy.blocked_commands.iter().enumerate() {
            match pattern.blocks(source, script) {
                Fit::Yes => facts.blocked.push(position),
                Fit::Maybe => {
                    let what = format!(
                        "it may be `{}`, which is blocked, depending on what is only known when it runs",
                        pattern.text()
                    );
                    facts.unclear.push(what);
                }
                Fit::No => {}
            }
        }
        for command in &script.commands {
            for found in effects::of_command(command) {
                if found.certain { &mut facts.effects } else { &mut facts.possible }.insert(found.effect);
            }
            if let Some(allowed) = &self.agent.policy.allow_commands
                && !allowed.iter().any(|pattern| pattern.allows(command))
            {
                facts.commands_outside.push(command.display());
            }
        }
    }

    fn check_file(&self, file: &FileUse, facts: &mut Facts) {
        let Some(text) = file.path.text().filter(|text| !text.is_empty()) else { return };
        let absolutes: Vec<String> = file.cwd.iter().map(|directory| join(directory, text)).collect();
        let absolutes = if text.starts_with('/') { vec![join("/", text)] } else { absolutes };
        let outside = absolutes.into_iter().find(|path| {
            !HARMLESS_FILES.contains(&path.as_str()) && !path.starts_with("/dev/fd/") && !self.agent.allows_path(path)
        });
        if let Some(path) = outside.filter(|path| !facts.paths_outside.contains(path)) {
            facts.paths_outside.push(path);
        }
    }
}
