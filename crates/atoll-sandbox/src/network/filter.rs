//! The packet filter on the machine's side of sandbox links, in nf_tables, spoken by hand:
//!
//! ```text
//! table inet atoll {
//!   chain input   { type filter hook input priority filter - 10;
//!     iifname "atv*" ct state & (established | related) == 0 drop }
//!   chain forward { type filter hook forward priority filter - 10;
//!     iifname "atv*" drop
//!     oifname "atv*" drop }
//! }
//! ```
//!
//! So a sandbox answers connections of the machine and reaches nothing; it is on the machine's side, where nobody
//! inside can undo it.

use super::LINK_PREFIX;
use super::netlink::{
    FLAG_ACK, FLAG_APPEND, FLAG_CREATE, FLAG_DUMP, Message, Netlink, NetlinkError, Reply, attributes,
};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const GET_GENERATION: u16 = 16;

const FAMILY_UNSPECIFIED: u8 = 0;
const FAMILY_INET: u8 = 1;
const BODY_BYTES: usize = 4;

const GENERATION_ID: u16 = 1;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
/// Before the priority that everybody's filters have, so that no rule of theirs lets through what ours stops.
const PRIORITY: i32 = -10;
const POLICY_ACCEPT: u32 = 1;

const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const CT_STATE: u32 = 0;
const STATE_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const COMPARE_EQUAL: u32 = 0;
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const VERDICT_DROP: u32 = 0;

const TABLE: &str = "atoll";
/// Goes with every rule, to know it again; the number rises when a rule changes.
const MARK: &str = "atoll-1";

/// One rule.
struct Rule {
    chain: &'static str,
    name: &'static str,
    expressions: fn(Message) -> Message,
}

const RULES: [Rule; 3] = [
    Rule { chain: "input", name: "from-sandbox", expressions: drop_unless_answer },
    Rule { chain: "forward", name: "from-sandbox", expressions: drop_all_from },
    Rule { chain: "forward", name: "to-sandbox", expressions: drop_all_to },
];

const CHAINS: [(&str, u32); 2] = [("input", HOOK_INPUT), ("forward", HOOK_FORWARD)];

fn drop_unless_answer(list: Message) -> Message {
    let list = interface_is_sandbox(list, META_INPUT_NAME);
    let list = expression(list, "ct", |data| data.number(1, REGISTER).number(2, CT_STATE));
    let list = expression(list, "bitwise", |data| {
        data.number(1, REGISTER)
            .number(2, REGISTER)
            .number(3, 4)
            .nested(4, |mask| mask.attribute(DATA_VALUE, &STATE_ESTABLISHED_OR_RELATED.to_ne_bytes()))
            .nested(5, |xor| xor.attribute(DATA_VALUE, &[0; 4]))
    });
    drop_packet(compare(list, &[0; 4]))
}

fn drop_all_from(list: Message) -> Message {
    drop_packet(interface_is_sandbox(list, META_INPUT_NAME))
}

fn drop_all_to(list: Message) -> Message {
    drop_packet(interface_is_sandbox(list, META_OUTPUT_NAME))
}

fn interface_is_sandbox(list: Message, key: u32) -> Message {
    let list = expression(list, "meta", |data| data.number(1, REGISTER).number(2, key));
    // Comparing fewer bytes than the name has is how a wildcard is said.
    compare(list, LINK_PREFIX.as_bytes())
}

fn compare(list: Message, value: &[u8]) -> Message {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER).number(2, COMPARE_EQUAL).nested(3, |operand| operand.attribute(DATA_VALUE, value))
    })
}

fn drop_packet(list: Message) -> Message {
    expression(list, "immediate", |data| {
        data.number(1, VERDICT_REGISTER)
            .nested(2, |verdict| verdict.nested(DATA_VERDICT, |code| code.number(1, VERDICT_DROP)))
    })
}

fn expression(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    list.nested(LIST_ELEMENT, |element| element.text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, fill))
}

fn body(family: u8, resource: u16) -> [u8; BODY_BYTES] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &body(FAMILY_INET, 0))
}

fn table_message(kind: u16, flags: u16) -> Message {
    message(kind, flags | FLAG_ACK).text(TABLE_NAME, TABLE)
}

fn userdata(rule: &Rule) -> Vec<u8> {
    format!("{MARK} {} {}", rule.chain, rule.name).into_bytes()
}

/// Replaces the whole table in one transaction, so that there is no moment without it.
pub(super) fn install(netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let mut batch = vec![
        table_message(NEW_TABLE, FLAG_CREATE),
        table_message(DELETE_TABLE, 0),
        table_message(NEW_TABLE, FLAG_CREATE),
    ];
    for (chain, hook) in CHAINS {
        batch.push(
            message(NEW_CHAIN, FLAG_CREATE | FLAG_ACK)
                .text(CHAIN_TABLE, TABLE)
                .text(CHAIN_NAME, chain)
                .nested(CHAIN_HOOK, |data| {
                    data.number(HOOK_NUMBER, hook).attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes())
                })
                .number(CHAIN_POLICY, POLICY_ACCEPT)
                .text(CHAIN_TYPE, "filter"),
        );
    }
    for rule in &RULES {
        batch.push(
            message(NEW_RULE, FLAG_CREATE | FLAG_APPEND | FLAG_ACK)
                .text(RULE_TABLE, TABLE)
                .text(RULE_CHAIN, rule.chain)
                .nested(RULE_EXPRESSIONS, rule.expressions)
                .attribute(RULE_USERDATA, &userdata(rule)),
        );
    }
    transact(netlink, batch)
}

/// Removes the table, if there is one.
pub(super) fn remove(netlink: &mut Netlink) -> Result<(), NetlinkError> {
    transact(netlink, vec![table_message(NEW_TABLE, FLAG_CREATE), table_message(DELETE_TABLE, 0)])
}

fn transact(netlink: &mut Netlink, messages: Vec<Message>) -> Result<(), NetlinkError> {
    let mut batch = vec![Message::new(BATCH_BEGIN, 0, &body(FAMILY_UNSPECIFIED, SUBSYSTEM))];
    batch.extend(messages);
    batch.push(Message::new(BATCH_END, 0, &body(FAMILY_UNSPECIFIED, SUBSYSTEM)));
    netlink.transact(batch)
}

/// A number that changes with every change of any packet filter in this network namespace.
pub(super) fn generation(netlink: &mut Netlink) -> Result<u32, NetlinkError> {
    let request = Message::new(SUBSYSTEM << 8 | GET_GENERATION, 0, &body(FAMILY_UNSPECIFIED, 0));
    let reply = netlink.ask(request)?;
    let id = attribute(&reply, GENERATION_ID).ok_or(NetlinkError::Answer)?;
    id.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(NetlinkError::Answer)
}

/// Whether every chain hangs on its hook and every rule is there, in order, and nothing else.
pub(super) fn in_force(netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    let chains = dump(netlink, GET_CHAIN)?;
    let hooks: Vec<(String, Option<u32>)> =
        chains.iter().map(|reply| (text(reply, CHAIN_NAME).unwrap_or_default(), hook_number(reply))).collect();
    let expected_hooks = CHAINS.map(|(name, hook)| (name.to_owned(), Some(hook)));
    let rules = dump(netlink, GET_RULE)?;
    let marks: Vec<Option<Vec<u8>>> = rules.iter().map(|reply| attribute(reply, RULE_USERDATA)).collect();
    let expected_marks: Vec<Option<Vec<u8>>> = RULES.iter().map(|rule| Some(userdata(rule))).collect();
    Ok(hooks == expected_hooks && marks == expected_marks)
}

/// What the table has of a kind.
fn dump(netlink: &mut Netlink, kind: u16) -> Result<Vec<Reply>, NetlinkError> {
    let request = message(kind, FLAG_DUMP).text(RULE_TABLE, TABLE);
    let replies = match netlink.dump(request) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Vec::new(),
        other => other?,
    };
    Ok(replies.into_iter().filter(|reply| text(reply, RULE_TABLE).as_deref() == Some(TABLE)).collect())
}

fn attribute(reply: &Reply, kind: u16) -> Option<Vec<u8>> {
    let found = attributes(reply.body.get(BODY_BYTES..)?);
    found.into_iter().find(|(number, _)| *number == kind).map(|(_, value)| value.to_vec())
}

fn text(reply: &Reply, kind: u16) -> Option<String> {
    let mut bytes = attribute(reply, kind)?;
    bytes.pop();
    String::from_utf8(bytes).ok()
}

fn hook_number(reply: &Reply) -> Option<u32> {
    let hook = attribute(reply, CHAIN_HOOK)?;
    let number = attributes(&hook).into_iter().find(|(kind, _)| *kind == HOOK_NUMBER)?.1;
    number.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}
