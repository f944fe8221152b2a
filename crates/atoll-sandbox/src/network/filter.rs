//! The packet filter on the machine's side of sandbox links, in nf_tables, spoken by hand:
//!
//! ```text
//! table inet atoll {
//!   map calling-by-link  { type ifname : verdict }      # one element for each sandbox that has rules
//!   map leaving-by-link  { type ifname : verdict }
//!   map arriving-by-link { type ifname : verdict }
//!   map turning-by-link  { type ifname : verdict }
//!   chain calling  { iifname vmap @calling-by-link; drop }
//!   chain arriving { oifname vmap @arriving-by-link; oifname "atv*" drop; accept }
//!   chain leaving  { iifname vmap @leaving-by-link; drop }
//!   chain input    { type filter hook input priority filter - 10;
//!     iifname "atv*" <is a reply> accept
//!     iifname "atv*" goto calling }
//!   chain forward  { type filter hook forward priority filter - 10;
//!     iifname "atv*" <is a reply> accept
//!     oifname "atv*" <is a reply> accept
//!     iifname "atv*" goto leaving
//!     oifname "atv*" goto arriving }
//!   chain turning  { type nat hook prerouting priority dstnat; iifname vmap @turning-by-link }
//!   chain parting  { type nat hook postrouting priority srcnat;
//!     ip saddr 10.201.0.0/16 oifname != "atv*" masquerade }
//! }
//! ```
//!
//! So a sandbox without rules answers connections of the machine and reaches nothing; what rules allow is in chains of
//! its link ([`sandbox`]). It is on the machine's side, where nobody inside can undo it. Every packet of a connection's
//! beginner is judged, not only the first: a rule that is taken back ends what it allowed.

mod expression;
pub(super) mod sandbox;

use std::collections::BTreeSet;

use super::LINK_PREFIX;
use super::netlink::{
    FLAG_ACK, FLAG_APPEND, FLAG_CREATE, FLAG_DUMP, Message, Netlink, NetlinkError, Reply, attributes,
};
use crate::spec::POD_NETWORK;
use expression::{Expressions, SOURCE, Verdict};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
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
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_BYTES: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_BYTES: u16 = 7;
const SET_ID: u16 = 10;
const SET_FLAG_MAP: u32 = 0x8;
const TYPE_LINK_NAME: u32 = 41;
const TYPE_VERDICT: u32 = 0xffff_ff00;
const LINK_NAME_BYTES: usize = 16;
const VERDICT_BYTES: u32 = 16;

const HOOK_PREROUTING: u32 = 0;
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
/// Before the priority that everybody's filters have, so that no rule of theirs lets through what ours stops.
const PRIORITY: i32 = -10;
const PRIORITY_DESTINATION: i32 = -100;
const PRIORITY_SOURCE: i32 = 100;
const POLICY_ACCEPT: u32 = 1;

const POD_NETWORK_MASK: [u8; 4] = [255, 255, 0, 0];

const TABLE: &str = "atoll";
/// Goes with every rule, to know it again; the number rises when a rule changes.
const MARK: &str = "atoll-2";

/// A chain, and the hook that it hangs on: type, number, priority.
struct Chain {
    name: &'static str,
    hook: Option<(&'static str, u32, i32)>,
}

/// In the order in which they refer to each other.
const CHAINS: [Chain; 7] = [
    Chain { name: CALLING, hook: None },
    Chain { name: ARRIVING, hook: None },
    Chain { name: LEAVING, hook: None },
    Chain { name: "input", hook: Some(("filter", HOOK_INPUT, PRIORITY)) },
    Chain { name: "forward", hook: Some(("filter", HOOK_FORWARD, PRIORITY)) },
    Chain { name: TURNING, hook: Some(("nat", HOOK_PREROUTING, PRIORITY_DESTINATION)) },
    Chain { name: "parting", hook: Some(("nat", HOOK_POSTROUTING, PRIORITY_SOURCE)) },
];

const CALLING: &str = "calling";
const ARRIVING: &str = "arriving";
const LEAVING: &str = "leaving";
const TURNING: &str = "turning";

/// The map that sends packets of a link from a chain to the link's own.
fn map_of(chain: &str) -> String {
    format!("{chain}-by-link")
}

/// One rule.
struct Rule {
    chain: &'static str,
    name: &'static str,
    expressions: fn(Expressions) -> Expressions,
}

const RULES: [Rule; 14] = [
    Rule { chain: CALLING, name: "own", expressions: |list| list.by_input_link(&map_of(CALLING)) },
    Rule { chain: CALLING, name: "none", expressions: |list| list.decide(&Verdict::Drop) },
    Rule { chain: ARRIVING, name: "own", expressions: |list| list.by_output_link(&map_of(ARRIVING)) },
    Rule { chain: ARRIVING, name: "none", expressions: |list| list.leaves_by_link(LINK_PREFIX).decide(&Verdict::Drop) },
    Rule { chain: ARRIVING, name: "outside", expressions: |list| list.decide(&Verdict::Accept) },
    Rule { chain: LEAVING, name: "own", expressions: |list| list.by_input_link(&map_of(LEAVING)) },
    Rule { chain: LEAVING, name: "none", expressions: |list| list.decide(&Verdict::Drop) },
    Rule {
        chain: "input",
        name: "answers",
        expressions: |list| list.came_by_link(LINK_PREFIX).reply().decide(&Verdict::Accept),
    },
    Rule {
        chain: "input",
        name: "calls",
        expressions: |list| list.came_by_link(LINK_PREFIX).decide(&Verdict::Goto(CALLING.to_owned())),
    },
    Rule {
        chain: "forward",
        name: "answers-from",
        expressions: |list| list.came_by_link(LINK_PREFIX).reply().decide(&Verdict::Accept),
    },
    Rule {
        chain: "forward",
        name: "answers-to",
        expressions: |list| list.leaves_by_link(LINK_PREFIX).reply().decide(&Verdict::Accept),
    },
    Rule {
        chain: "forward",
        name: "from",
        expressions: |list| list.came_by_link(LINK_PREFIX).decide(&Verdict::Goto(LEAVING.to_owned())),
    },
    Rule {
        chain: "forward",
        name: "to",
        expressions: |list| list.leaves_by_link(LINK_PREFIX).decide(&Verdict::Goto(ARRIVING.to_owned())),
    },
    Rule { chain: TURNING, name: "own", expressions: |list| list.by_input_link(&map_of(TURNING)) },
];

/// The last rule of all; apart because it is long.
const PARTING: Rule = Rule {
    chain: "parting",
    name: "outside",
    expressions: |list| {
        list.ipv4()
            .address_within(SOURCE, POD_NETWORK.octets(), POD_NETWORK_MASK)
            .leaves_by_other_link(LINK_PREFIX)
            .masquerade()
    },
};

fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(std::iter::once(&PARTING))
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

fn userdata(chain: &str, name: &str) -> Vec<u8> {
    format!("{MARK} {chain} {name}").into_bytes()
}

fn chain_message(chain: &Chain) -> Message {
    let message = message(NEW_CHAIN, FLAG_CREATE | FLAG_ACK).text(CHAIN_TABLE, TABLE).text(CHAIN_NAME, chain.name);
    let Some((kind, hook, priority)) = chain.hook else { return message };
    message
        .nested(CHAIN_HOOK, |data| data.number(HOOK_NUMBER, hook).attribute(HOOK_PRIORITY, &priority.to_be_bytes()))
        .number(CHAIN_POLICY, POLICY_ACCEPT)
        .text(CHAIN_TYPE, kind)
}

fn map_message(chain: &str, id: u32) -> Message {
    message(NEW_SET, FLAG_CREATE | FLAG_ACK)
        .text(SET_TABLE, TABLE)
        .text(SET_NAME, &map_of(chain))
        .number(SET_FLAGS, SET_FLAG_MAP)
        .number(SET_KEY_TYPE, TYPE_LINK_NAME)
        .number(SET_KEY_BYTES, LINK_NAME_BYTES as u32)
        .number(SET_DATA_TYPE, TYPE_VERDICT)
        .number(SET_DATA_BYTES, VERDICT_BYTES)
        .number(SET_ID, id)
}

fn rule_message(chain: &str, name: &str, flags: u16, expressions: impl FnOnce(Expressions) -> Expressions) -> Message {
    message(NEW_RULE, FLAG_CREATE | FLAG_APPEND | flags)
        .text(RULE_TABLE, TABLE)
        .text(RULE_CHAIN, chain)
        .nested(RULE_EXPRESSIONS, |list| expressions(Expressions(list)).0)
        .attribute(RULE_USERDATA, &userdata(chain, name))
}

/// Replaces the whole table in one transaction, so that there is no moment without it. What sandboxes had is gone.
pub(super) fn install(netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let mut batch = vec![
        table_message(NEW_TABLE, FLAG_CREATE),
        table_message(DELETE_TABLE, 0),
        table_message(NEW_TABLE, FLAG_CREATE),
    ];
    batch.extend(sandbox::DIRECTIONS.into_iter().zip(1..).map(|(chain, id)| map_message(chain, id)));
    batch.extend(CHAINS.iter().map(chain_message));
    batch.extend(rules().map(|rule| rule_message(rule.chain, rule.name, FLAG_ACK, rule.expressions)));
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

/// What a look at the table found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Whether every chain hangs on its hook and every rule is there, in order, and nothing else but what is of links.
    pub(super) in_force: bool,
    /// Links that have chains of their own.
    pub(super) links: BTreeSet<String>,
}

/// Looks at the whole table.
pub(super) fn look(netlink: &mut Netlink) -> Result<Sight, NetlinkError> {
    let chains = dump(netlink, message(GET_CHAIN, FLAG_DUMP).text(RULE_TABLE, TABLE))?;
    let mut sight = Sight::default();
    let mut found = Vec::new();
    for reply in &chains {
        let name = text(reply, CHAIN_NAME).unwrap_or_default();
        match sandbox::link_of(&name) {
            Some(link) => drop(sight.links.insert(link.to_owned())),
            None => found.push((name, hook_number(reply))),
        }
    }
    let expected: Vec<(String, Option<u32>)> =
        CHAINS.iter().map(|chain| (chain.name.to_owned(), chain.hook.map(|(_, number, _)| number))).collect();
    sight.in_force = found == expected && rules_in_force(netlink)?;
    Ok(sight)
}

fn rules_in_force(netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    for chain in &CHAINS {
        let request = message(GET_RULE, FLAG_DUMP).text(RULE_TABLE, TABLE).text(RULE_CHAIN, chain.name);
        let replies = dump(netlink, request)?;
        let in_chain = replies.iter().filter(|reply| text(reply, RULE_CHAIN).as_deref() == Some(chain.name));
        let marks: Vec<Option<Vec<u8>>> = in_chain.map(|reply| attribute(reply, RULE_USERDATA)).collect();
        let of_chain = rules().filter(|rule| rule.chain == chain.name);
        let expected: Vec<Option<Vec<u8>>> = of_chain.map(|rule| Some(userdata(rule.chain, rule.name))).collect();
        if marks != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the table has of a kind.
fn dump(netlink: &mut Netlink, request: Message) -> Result<Vec<Reply>, NetlinkError> {
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
