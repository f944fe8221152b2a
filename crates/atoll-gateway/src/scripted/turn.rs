//! Which answer comes next. Pure: a request's history in, a turn out.

use serde_json::Value;

use super::script::{Part, Script, Turn};

/// A history that was not expected is shown up to so many characters.
const SHOWN_CHARS_MAX: usize = 2000;

/// The conversation has no answer for this history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct OffScript(pub(super) String);

/// The next turn for a request: as many answers have been given as its history holds.
pub(super) fn next(script: &Script, request: &Value) -> Result<Turn, OffScript> {
    let messages = request["messages"].as_array().map_or(&[][..], Vec::as_slice);
    check_calls(messages)?;
    let part = part(script, messages)?;
    let heard = heard(messages);
    let given = heard.len() - 1;
    let turn = part.turns.get(given).ok_or_else(|| {
        OffScript(format!(
            "the conversation of {:?} has {} turns; this would be one more",
            part.agent,
            part.turns.len()
        ))
    })?;
    let since = &heard[given];
    if let Some(words) = turn.expect.iter().find(|words| !since.contains(words.as_str())) {
        return Err(OffScript(format!(
            "turn {} of {:?} expects {words:?}, but what came is: {}",
            given + 1,
            part.agent,
            since.chars().take(SHOWN_CHARS_MAX).collect::<String>()
        )));
    }
    let captured = captured(part, &heard)?;
    Ok(filled(turn.clone(), &captured))
}

/// What was said before each answer, and since the last one: one text more than there are answers.
fn heard(messages: &[Value]) -> Vec<String> {
    messages
        .split(|message| message["role"] == "assistant")
        .map(|between| between.iter().map(text).collect::<Vec<_>>().join("\n"))
        .collect()
}

/// Every call has its result, and every result its call.
fn check_calls(messages: &[Value]) -> Result<(), OffScript> {
    let mut waiting: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(position) = waiting.iter().position(|known| *known == id) else {
                return Err(OffScript(format!("messages[{index}] is the result of {id:?}, which no open call bears")));
            };
            waiting.remove(position);
        } else if let Some(id) = waiting.first() {
            return Err(OffScript(format!("messages[{index}] comes before the result of the call {id:?}")));
        }
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        waiting.extend(calls.map(|call| call["id"].as_str().unwrap_or_default()));
    }
    match waiting.first() {
        Some(id) => Err(OffScript(format!("the call {id:?} has no result"))),
        None => Ok(()),
    }
}

/// The parts named by the turns so far.
fn captured(part: &Part, heard: &[String]) -> Result<Vec<(String, String)>, OffScript> {
    let mut found = Vec::new();
    for (turn, heard) in part.turns.iter().zip(heard) {
        for (name, capture) in &turn.capture {
            let begin = heard.split_once(capture.after.as_str()).map(|(_, rest)| rest);
            let until = capture.until.as_deref().unwrap_or("\n");
            let value = begin.map(|rest| rest.split_once(until).map_or(rest, |(value, _)| value));
            let value =
                value.ok_or_else(|| OffScript(format!("there is no {:?} to capture {name} after", capture.after)))?;
            found.push((format!("${{{name}}}"), value.to_owned()));
        }
    }
    Ok(found)
}

fn filled(mut turn: Turn, captured: &[(String, String)]) -> Turn {
    if captured.is_empty() {
        return turn;
    }
    turn.text = fill(&turn.text, captured);
    for call in &mut turn.calls {
        for argument in call.arguments.values_mut() {
            fill_value(argument, captured);
        }
    }
    turn
}

fn fill_value(value: &mut Value, captured: &[(String, String)]) {
    match value {
        Value::String(text) => *text = fill(text, captured),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_value(item, captured)),
        Value::Object(members) => members.values_mut().for_each(|member| fill_value(member, captured)),
        _ => {}
    }
}

fn fill(text: &str, captured: &[(String, String)]) -> String {
    captured.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
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
        for answer in 0..answers {
            let id = format!("c{answer}");
            messages.push(json!({"role": "assistant", "content": "x", "tool_calls": [{"id": id}]}));
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": last}));
        }
        next(&script, &json!({"messages": messages})).map(|turn| turn.text)
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

    #[test]
    fn parts_of_results_are_said_again() {
        let script = "
agents:
- agent: writer
  turns:
  - {text: go}
  - {text: 'saw ${id}', capture: {id: {after: 'commit ', until: ' on'}}}
  - text: again
    calls: [{tool: t, arguments: {list: ['${id}', '${OTHER}'], n: 1}}]
";
        let script = Script::parse(script, "talk.yaml").expect("it is well formed");
        let mut messages = vec![json!({"role": "system", "content": "You are \"writer\""})];
        for result in ["commit abc on main\nmore", "no commit here"] {
            messages.push(json!({"role": "assistant", "content": "x"}));
            messages.push(json!({"role": "user", "content": result}));
        }
        let turn = next(&script, &json!({"messages": messages})).expect("it is in the script");
        assert_eq!(Value::Object(turn.calls[0].arguments.clone()), json!({"list": ["abc", "${OTHER}"], "n": 1}));
        assert_eq!(next(&script, &json!({"messages": messages[..3]})).expect("too").text, "saw abc");
        let lost = json!({"messages": [messages[0], messages[1], {"role": "user", "content": "nothing"}]});
        assert!(next(&script, &lost).expect_err("nothing to capture").0.contains("capture id"));
    }

    #[test]
    fn calls_and_results_belong_together() {
        let script = Script::parse(SCRIPT, "talk.yaml").expect("it is well formed");
        let system = json!({"role": "system", "content": "You are \"writer\""});
        let call = json!({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "exit code 0"});
        for (messages, complaint) in [
            (vec![system.clone(), call.clone(), result("a")], "\"b\" has no result"),
            (vec![system.clone(), result("a")], "no open call"),
            (vec![system.clone(), call.clone(), result("a"), result("a")], "no open call"),
            (
                vec![system.clone(), call.clone(), result("a"), json!({"role": "user", "content": "x"})],
                "before the result",
            ),
        ] {
            let error = next(&script, &json!({"messages": messages})).expect_err(complaint);
            assert!(error.0.contains(complaint), "{error}");
        }
        let good = json!({"messages": [system, call, result("b"), result("a")]});
        assert_eq!(next(&script, &good).expect("it makes sense").text, "second");
    }
}
