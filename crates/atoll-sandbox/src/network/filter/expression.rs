//! Expressions of nf_tables rules: small machine words that load, compare and decide.

use super::super::netlink::Message;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const CODE_DROP: u32 = 0;
const CODE_ACCEPT: u32 = 1;
/// -4 as the kernel reads it.
const CODE_GOTO: u32 = 0xffff_fffc;

const COMPARE_EQUAL: u32 = 0;
const COMPARE_DIFFERENT: u32 = 1;
const COMPARE_AT_MOST: u32 = 3;
const COMPARE_AT_LEAST: u32 = 5;

const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_TRANSPORT: u32 = 16;
const FAMILY_IPV4: u8 = 2;

const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const STATE_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DIRECTION_REPLY: u8 = 1;
const STATUS_DESTINATION_CHANGED: u32 = 1 << 5;

const HEADER_NETWORK: u32 = 1;
const HEADER_TRANSPORT: u32 = 2;
/// Of the source address in an IPv4 header.
pub(super) const SOURCE: u32 = 12;
/// Of the destination address.
pub(super) const DESTINATION: u32 = 16;
const DESTINATION_PORT: u32 = 2;

const REJECT_ICMPX: u32 = 2;
const ICMPX_PROHIBITED: u8 = 3;

/// What a rule decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop,
    Accept,
    Goto(String),
}

impl Verdict {
    /// As the content of a data attribute.
    pub(super) fn encode(&self, data: Message) -> Message {
        data.nested(DATA_VERDICT, |code| match self {
            Self::Drop => code.number(VERDICT_CODE, CODE_DROP),
            Self::Accept => code.number(VERDICT_CODE, CODE_ACCEPT),
            Self::Goto(chain) => code.number(VERDICT_CODE, CODE_GOTO).text(VERDICT_CHAIN, chain),
        })
    }
}

/// A list of expressions under construction.
pub(super) struct Expressions(pub(super) Message);

impl Expressions {
    fn add(self, name: &str, fill: impl FnOnce(Message) -> Message) -> Self {
        Self(self.0.nested(LIST_ELEMENT, |element| element.text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, fill)))
    }

    fn meta(self, key: u32) -> Self {
        self.add("meta", |data| data.number(1, REGISTER).number(2, key))
    }

    fn connection(self, key: u32) -> Self {
        self.add("ct", |data| data.number(1, REGISTER).number(2, key))
    }

    fn load(self, header: u32, offset: u32, bytes: u32) -> Self {
        self.add("payload", |data| data.number(1, REGISTER).number(2, header).number(3, offset).number(4, bytes))
    }

    fn compare(self, how: u32, value: &[u8]) -> Self {
        self.add("cmp", |data| {
            data.number(1, REGISTER).number(2, how).nested(3, |operand| operand.attribute(DATA_VALUE, value))
        })
    }

    fn mask(self, mask: [u8; 4]) -> Self {
        self.add("bitwise", |data| {
            data.number(1, REGISTER)
                .number(2, REGISTER)
                .number(3, 4)
                .nested(4, |value| value.attribute(DATA_VALUE, &mask))
                .nested(5, |xor| xor.attribute(DATA_VALUE, &[0; 4]))
        })
    }

    /// The packet came in by a link whose name starts so: comparing fewer bytes than the name has is a wildcard.
    pub(super) fn came_by_link(self, prefix: &str) -> Self {
        self.meta(META_INPUT_NAME).compare(COMPARE_EQUAL, prefix.as_bytes())
    }

    /// The packet goes out by such a link.
    pub(super) fn leaves_by_link(self, prefix: &str) -> Self {
        self.meta(META_OUTPUT_NAME).compare(COMPARE_EQUAL, prefix.as_bytes())
    }

    /// The packet goes out by another link.
    pub(super) fn leaves_by_other_link(self, prefix: &str) -> Self {
        self.meta(META_OUTPUT_NAME).compare(COMPARE_DIFFERENT, prefix.as_bytes())
    }

    /// The packet answers, or reports an error of, a connection that the other side began.
    pub(super) fn reply(self) -> Self {
        self.connection(CT_STATE)
            .mask(STATE_ESTABLISHED_OR_RELATED.to_ne_bytes())
            .compare(COMPARE_DIFFERENT, &[0; 4])
            .connection(CT_DIRECTION)
            .compare(COMPARE_EQUAL, &[DIRECTION_REPLY])
    }

    /// The packet was meant for somewhere else before it was turned here.
    pub(super) fn was_turned(self) -> Self {
        self.connection(CT_STATUS).mask(STATUS_DESTINATION_CHANGED.to_ne_bytes()).compare(COMPARE_DIFFERENT, &[0; 4])
    }

    pub(super) fn ipv4(self) -> Self {
        self.meta(META_FAMILY).compare(COMPARE_EQUAL, &[FAMILY_IPV4])
    }

    pub(super) fn other_than_ipv4(self) -> Self {
        self.meta(META_FAMILY).compare(COMPARE_DIFFERENT, &[FAMILY_IPV4])
    }

    /// The address at `offset` of the IPv4 header is another one.
    pub(super) fn address_is_not(self, offset: u32, address: [u8; 4]) -> Self {
        self.load(HEADER_NETWORK, offset, 4).compare(COMPARE_DIFFERENT, &address)
    }

    pub(super) fn address_is(self, offset: u32, address: [u8; 4]) -> Self {
        self.load(HEADER_NETWORK, offset, 4).compare(COMPARE_EQUAL, &address)
    }

    /// The address at `offset` lies within a network.
    pub(super) fn address_within(self, offset: u32, network: [u8; 4], mask: [u8; 4]) -> Self {
        self.load(HEADER_NETWORK, offset, 4).mask(mask).compare(COMPARE_EQUAL, &network)
    }

    /// The address at `offset` is in a set.
    pub(super) fn address_in_set(self, offset: u32, set: &str, id: u32) -> Self {
        self.load(HEADER_NETWORK, offset, 4).add("lookup", |data| data.text(1, set).number(2, REGISTER).number(4, id))
    }

    pub(super) fn transport(self, protocol: u8) -> Self {
        self.meta(META_TRANSPORT).compare(COMPARE_EQUAL, &[protocol])
    }

    /// The destination port, of a transport that has one.
    pub(super) fn port(self, first: u16, last: u16) -> Self {
        let loaded = self.load(HEADER_TRANSPORT, DESTINATION_PORT, 2);
        if first == last {
            return loaded.compare(COMPARE_EQUAL, &first.to_be_bytes());
        }
        loaded.compare(COMPARE_AT_LEAST, &first.to_be_bytes()).compare(COMPARE_AT_MOST, &last.to_be_bytes())
    }

    /// The verdict that a map holds for the link that the packet came in by.
    pub(super) fn by_input_link(self, map: &str) -> Self {
        self.meta(META_INPUT_NAME).verdict_of(map)
    }

    /// The same for the link that it goes out by.
    pub(super) fn by_output_link(self, map: &str) -> Self {
        self.meta(META_OUTPUT_NAME).verdict_of(map)
    }

    fn verdict_of(self, map: &str) -> Self {
        self.add("lookup", |data| data.text(1, map).number(2, REGISTER).number(3, VERDICT_REGISTER))
    }

    /// Turns the connection to a port of this machine.
    pub(super) fn redirect(self, port: u16) -> Self {
        self.add("immediate", |data| {
            data.number(1, REGISTER).nested(2, |value| value.attribute(DATA_VALUE, &port.to_be_bytes()))
        })
        .add("redir", |data| data.number(1, REGISTER))
    }

    /// Gives the packet the machine's own source address.
    pub(super) fn masquerade(self) -> Self {
        self.add("masq", |data| data)
    }

    /// Tells the sender that it may not.
    pub(super) fn reject(self) -> Self {
        self.add("reject", |data| data.number(1, REJECT_ICMPX).attribute(2, &[ICMPX_PROHIBITED]))
    }

    pub(super) fn decide(self, verdict: &Verdict) -> Self {
        self.add("immediate", |data| data.number(1, VERDICT_REGISTER).nested(2, |value| verdict.encode(value)))
    }
}
