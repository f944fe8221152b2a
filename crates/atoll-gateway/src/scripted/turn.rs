//! Which answer comes next. Pure: a request's history in, a turn out.

use serde_json::Value;

use super::script::{Part, Script, Turn};

/// The conversation has no answer for this history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct OffScript(pub(super) String);

/// The next turn for a request: as many answers have been given as its history holds.
pub(super) fn next<'a>(script: &'a Script, request: &Value) -> Result<&'a Turn, OffScript> {
    let messages = request["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let part = part(script, messages)?;
    let given = messages.iter().filter(|message| message["role"] == "assistant").count();
    let turn = part.turns.get(given).ok_or_else(|| {
        OffScript(format!(
            "the conversation of {:?} has {} turns; this would be one more",
            part.agent,
            part.turns.len()
        ))
    })?;
    let since = since_last_answer(messages);
    match turn.expect.iter().find(|words| !since.contains(words.as_str())) {
        None => Ok(turn),
        Some(words) => Err(OffScript(format!(
            "turn {} of {:?} expects {words:?}, but what came is: {}",
            given + 1,
            part.agent,
            since.chars().take(2000).collect::<String>()
        ))),
    }
}

fn part<'a>(script: &'a Script, messages: &[Value]) -> Result<&'a Part, OffScript> {
    let system = text_of(messages, "system");
    let task = messages.iter().find(|message| message["role"] == "user").map(text).unwrap_or_default();
    let fits = |part: &&Part| {
        system.contains(&format!("You are \"{}\"", part.agent))
            && part.task_contains.as_ref().is_none_or(|words| task.contains(words.as_str()))
    };
    script.agents.iter().find(fits).ok_or_else(|| {
        let agents: Vec<&str> = script.agents.iter().map(|part| part.agent.as_str()).collect();
        OffScript(format!("the conversation has no part for this agent and task; it has {}", agents.join(", ")))
    })
}

fn since_last_answer(messages: &[Value]) -> String {
    let start = messages.iter().rposition(|message| message["role"] == "assistant").map_or(0, |index| index + 1);
    messages[start..].iter().map(text).collect::<Vec<_>>().join("\n")
}

fn text_of(messages: &[Value], role: &str) -> String {
    messages.iter().filter(|message| message["role"] == role).map(text).collect::<Vec<_>>().join("\n")
}

fn text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCRIPT: &str = "
agents:
- agent: writer
  task_contains: special
  turns: [{text: special answer}]
- agent: writer
  turns:
  - {text: first}
  - {text: second, expect: [exit code 0]}
";

    fn ask(agent: &str, task: &str, answers: usize, last: &str) -> Result<String, OffScript> {
        let script = Script::parse(SCRIPT, "talk.yaml").expect("it is well formed");
        let mut messages = vec![
            json!({"role": "system", "content": format!("You are \"{agent}\", an agent.")}),
            json!({"role": "user", "content": task}),
        ];
        for _ in 0..answers {
            messages.push(json!({"role": "assistant", "content": "x"}));
            messages.push(json!({"role": "tool", "content": last}));
        }
        next(&script, &json!({"messages": messages})).map(|turn| turn.text.clone())
    }

    #[test]
    fn the_history_chooses_the_turn() {
        assert_eq!(ask("writer", "do it", 0, ""), Ok("first".to_owned()));
        assert_eq!(ask("writer", "do it", 1, "exit code 0"), Ok("second".to_owned()));
        assert_eq!(ask("writer", "a special task", 0, ""), Ok("special answer".to_owned()));
    }

    #[test]
    fn histories_that_make_no_sense_are_refused() {
        for (agent, answers, last, complaint) in [
            ("writer", 1, "exit code 1", "expects \"exit code 0\""),
            ("writer", 2, "", "one more"),
            ("stranger", 0, "", "no part for this agent"),
        ] {
            let error = ask(agent, "do it", answers, last).expect_err(agent).to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
