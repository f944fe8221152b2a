//! What a model is sent: a stable prefix (instructions, tools, task), then the conversation, within a hard cap.

use serde_json::Value;

use crate::config::RunConfig;
use crate::event::RawCall;
use crate::prompt;
use crate::state::{AgentState, History, Message, RunState};
use crate::tools::{self, ToolDefinition};

/// Results and arguments of shortened messages keep at most this much.
const SHORT_BYTES_MAX: usize = 256;
/// Messages at the end that are never shortened: the newest answer and its results must be seen in full.
const KEEP_MESSAGES: usize = 8;
/// Once the cap is hit, shorten until this share of it is used, in percent: rarely, and then a lot, so that the prefix
/// stays the same for many calls.
const REFILL_PERCENT: usize = 60;
/// What a message costs beyond its texts.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// One model call.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRequest {
    /// `None` is the gateway's default.
    pub model: Option<String>,
    pub system: String,
    pub messages: Vec<Message>,
    pub tools: Vec<ToolDefinition>,
    /// The longest answer that the budget has room for; `None` when any will do.
    pub output_tokens_max: Option<u64>,
}

/// The request for the next step of an agent; `None` for an agent that does not exist.
#[must_use]
pub fn assemble(state: &RunState, agent: u32) -> Option<ModelRequest> {
    let agent = state.agent(agent)?;
    let profile = state.profile(agent);
    Some(ModelRequest {
        model: state.config.model_of(profile).map(str::to_owned),
        system: prompt::system(&state.config, profile),
        messages: agent.history.messages.clone(),
        tools: offered(&state.config, agent),
        output_tokens_max: agent.reservation.and_then(|reservation| reservation.output_tokens_max),
    })
}

/// The tools an agent is told of: those of [`tools::ALL`] in their order, then those of its MCP servers.
fn offered(config: &RunConfig, agent: &AgentState) -> Vec<ToolDefinition> {
    let Some(profile) = config.profile(&agent.name) else { return Vec::new() };
    let granted = |name: &str| profile.tools.iter().any(|tool| tool == name);
    let own = tools::ALL.iter().filter(|name| granted(name)).filter_map(|name| tools::definition(name));
    let external = agent.workspace.servers.iter().flat_map(tools::ServerTools::definitions);
    own.chain(external.filter(|tool| granted(&tool.name))).collect()
}

fn shortened(message: &Message) -> Message {
    match message {
        Message::User { .. } => message.clone(),
        Message::Assistant { text, calls } => {
            let short = |call: &RawCall| RawCall { arguments: shortened_arguments(&call.arguments), ..call.clone() };
            Message::Assistant { text: text.clone(), calls: calls.iter().map(short).collect() }
        }
        Message::Tool { text, .. } if text.len() <= SHORT_BYTES_MAX => message.clone(),
        Message::Tool { call_id, tool, text } => {
            let text = format!("[Result of {} bytes left out to save room; call again to see it.]", text.len());
            Message::Tool { call_id: call_id.clone(), tool: tool.clone(), text }
        }
    }
}

/// Arguments stay valid JSON, because providers parse them.
fn shortened_arguments(arguments: &str) -> String {
    if arguments.len() <= SHORT_BYTES_MAX {
        return arguments.to_owned();
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(arguments) else {
        return "{}".to_owned();
    };
    for value in fields.values_mut() {
        let bytes = value.to_string().len();
        if bytes > SHORT_BYTES_MAX {
            *value = Value::String(format!("[{bytes} bytes left out]"));
        }
    }
    Value::Object(fields).to_string()
}

/// Makes the history fit into `bytes_max` by shortening old messages; where that is not enough, by leaving the oldest
/// out; and where a single newest message is the trouble, by shortening that too. The task stays whole. What goes is
/// gone from the state, so that a run's state does not grow with its length; the journal has it all.
pub fn compact(history: &mut History, bytes_max: usize) {
    let mut size = size(history);
    if size <= bytes_max {
        return;
    }
    let target = bytes_max * REFILL_PERCENT / 100;
    let newest = history.messages.len().saturating_sub(KEEP_MESSAGES);
    while size > target && history.shortened < newest {
        size -= shorten_next(history);
    }
    if size > bytes_max {
        size = leave_out(history, size, bytes_max);
    }
    while size > bytes_max && history.shortened < history.messages.len() {
        size -= shorten_next(history);
    }
}

/// Shortens one message more; returns how many bytes that saves.
fn shorten_next(history: &mut History) -> usize {
    let index = history.shortened;
    history.shortened += 1;
    if index == 0 {
        return 0;
    }
    let message = &mut history.messages[index];
    let before = message_bytes(message);
    *message = shortened(message);
    before.saturating_sub(message_bytes(message))
}

/// Leaves whole turns out from the beginning, after the task; returns the new size.
fn leave_out(history: &mut History, mut size: usize, bytes_max: usize) -> usize {
    // The mark of an earlier time is replaced by the new one.
    let first = if history.left_out > 0 { 2 } else { 1 };
    let newest = history.messages.len().saturating_sub(KEEP_MESSAGES);
    let mut end = first;
    while size > bytes_max && end < newest {
        let next = next_turn(history, end);
        size -= history.messages[end..next].iter().map(message_bytes).sum::<usize>().min(size);
        end = next;
    }
    let gone = end - first;
    if gone == 0 {
        return size;
    }
    history.left_out += gone as u64;
    let text = format!("[{} earlier messages are left out here to save room.]", history.left_out);
    history.messages.splice(1..end, [Message::User { text }]);
    history.shortened = history.shortened.saturating_sub(end - 1).max(2);
    self::size(history)
}

/// The index of the next message after `from` that begins a turn: results must not lose their call.
fn next_turn(history: &History, from: usize) -> usize {
    let is_result = |message: &&Message| matches!(message, Message::Tool { .. });
    let rest = history.messages.get(from + 1..).unwrap_or_default();
    from + 1 + rest.iter().take_while(is_result).count()
}

/// How many bytes a history takes, as the cap counts them.
pub(crate) fn size(history: &History) -> usize {
    history.messages.iter().map(message_bytes).sum()
}

fn message_bytes(message: &Message) -> usize {
    let texts = match message {
        Message::User { text } => text.len(),
        Message::Tool { text, call_id, .. } => text.len() + call_id.len(),
        Message::Assistant { text, calls } => {
            text.len() + calls.iter().map(|call| call.arguments.len() + call.tool.len() + call.id.len()).sum::<usize>()
        }
    };
    texts + MESSAGE_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(turns: usize, result_bytes: usize) -> History {
        let mut messages = vec![Message::User { text: "the task".to_owned() }];
        for turn in 0..turns {
            let id = format!("c{turn}");
            let arguments = format!(r#"{{"path":"f{turn}","content":"{}"}}"#, "a".repeat(result_bytes));
            let call = RawCall { id: id.clone(), tool: tools::FILE_WRITE.to_owned(), arguments };
            messages.push(Message::Assistant { text: String::new(), calls: vec![call] });
            messages.push(Message::Tool { call_id: id, tool: "file_write".to_owned(), text: "r".repeat(result_bytes) });
        }
        History { messages, shortened: 0, left_out: 0 }
    }

    #[test]
    fn a_small_history_is_sent_as_it_is() {
        let (mut compacted, whole) = (history(3, 100), history(3, 100));
        compact(&mut compacted, 100_000);
        assert_eq!(compacted, whole);
    }

    #[test]
    fn old_results_are_shortened_first_and_arguments_stay_json() {
        let (mut compacted, whole) = (history(20, 1000), history(20, 1000));
        compact(&mut compacted, 30_000);
        assert!(size(&compacted) <= 30_000);
        let sent = &compacted.messages;
        assert_eq!((sent.len(), compacted.left_out), (whole.messages.len(), 0));
        assert!(matches!(&sent[2], Message::Tool { text, .. } if text.contains("1000 bytes left out")));
        let Message::Assistant { calls, .. } = &sent[1] else { panic!("an assistant message") };
        let arguments: Value = serde_json::from_str(&calls[0].arguments).expect("valid JSON");
        assert_eq!(arguments["path"], "f0");
        assert_eq!(sent.last(), whole.messages.last(), "the newest is whole");
    }

    #[test]
    fn the_oldest_turns_go_when_shortening_is_not_enough() {
        let mut compacted = history(400, 300);
        for round in 1..=3 {
            compact(&mut compacted, 20_000);
            assert!(size(&compacted) <= 20_000);
            let sent = &compacted.messages;
            assert_eq!(sent[0], Message::User { text: "the task".to_owned() }, "the task stays");
            assert!(matches!(&sent[1], Message::User { text } if text.contains("earlier messages are left out")));
            assert!(matches!(&sent[2], Message::Assistant { .. }), "a result never stands without its call: {sent:?}");
            let marks = sent.iter().filter(|message| matches!(message, Message::User { .. })).count();
            assert_eq!(marks, 2, "one mark, round {round}");
            compacted.messages.extend(history(100, 300).messages.into_iter().skip(1));
        }
    }

    #[test]
    fn one_huge_message_at_the_end_is_shortened_too() {
        let mut compacted = history(1, 200_000);
        compact(&mut compacted, 20_000);
        assert!(size(&compacted) <= 20_000);
    }

    #[test]
    fn the_prefix_stays_the_same_between_compactions() {
        let mut compacted = history(20, 1000);
        compact(&mut compacted, 30_000);
        let before = compacted.messages.clone();
        compacted.messages.push(Message::User { text: "more".to_owned() });
        compact(&mut compacted, 30_000);
        assert_eq!(compacted.messages[..before.len()], before[..]);
    }
}
