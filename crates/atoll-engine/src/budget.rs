//! Budgets: what may be spent, what is spent, and what is promised to calls whose end nobody has heard yet.
//!
//! Every agent has a [`Ledger`] for itself and everything below it; the root's is the run's. A model call is *reserved*
//! in the ledgers of its agent and of all above it before it is made, and *settled* by what it really used after. So
//! children draw from their parents, and calls that run at the same time can not spend the same rest twice.

use serde::{Deserialize, Serialize};

/// Tokens of input that a byte of a message is taken for before the provider has counted: two bytes a token is more than
/// any tokenizer makes of text.
const BYTES_PER_TOKEN: u64 = 2;
/// Instructions and tool definitions, which stand before every conversation.
const PREFIX_TOKENS: u64 = 4_000;
/// An answer shorter than this is not worth asking for.
const OUTPUT_TOKENS_MIN: u64 = 256;
const TOKENS_PER_PRICE: u64 = 1_000_000;

/// What is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Model calls.
    pub steps: u64,
    /// Input and output together.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub microusd: u64,
}

impl Amounts {
    fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps.saturating_add(other.steps),
            tokens: self.tokens.saturating_add(other.tokens),
            microusd: self.microusd.saturating_add(other.microusd),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            steps: self.steps.saturating_sub(other.steps),
            tokens: self.tokens.saturating_sub(other.tokens),
            microusd: self.microusd.saturating_sub(other.microusd),
        }
    }

    /// The amount of one resource.
    #[must_use]
    pub fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Steps => self.steps,
            Resource::Tokens => self.tokens,
            Resource::Money => self.microusd,
        }
    }
}

/// What may be spent; `None` sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    pub steps: Option<u64>,
    pub tokens: Option<u64>,
    pub microusd: Option<u64>,
}

impl Budget {
    /// The stricter of two budgets, resource by resource.
    #[must_use]
    pub fn narrowed(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            steps: least(self.steps, other.steps),
            tokens: least(self.tokens, other.tokens),
            microusd: least(self.microusd, other.microusd),
        }
    }

    /// The limit of one resource.
    #[must_use]
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Steps => self.steps,
            Resource::Tokens => self.tokens,
            Resource::Money => self.microusd,
        }
    }
}

/// What a budget limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Steps,
    Tokens,
    Money,
}

impl Resource {
    pub const ALL: [Self; 3] = [Self::Steps, Self::Tokens, Self::Money];

    /// An amount of it for people: `12 steps`, `$0.42`.
    #[must_use]
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Steps => format!("{amount} model calls"),
            Self::Tokens => format!("{amount} tokens"),
            Self::Money => format!("${}.{:04}", amount / 1_000_000, amount % 1_000_000 / 100),
        }
    }
}

/// The account of an agent and everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub cap: Budget,
    pub spent: Amounts,
    /// Promised to calls that are being made.
    pub reserved: Amounts,
    /// Whether the soft limit was passed and told.
    pub warned: bool,
}

impl Ledger {
    pub(crate) fn new(cap: Budget) -> Self {
        Self { cap, ..Self::default() }
    }

    /// What is left of a resource; `None` without limit.
    fn room(&self, resource: Resource) -> Option<u64> {
        let taken = self.spent.plus(self.reserved).of(resource);
        self.cap.of(resource).map(|cap| cap.saturating_sub(taken))
    }

    pub(crate) fn reserve(&mut self, amounts: Amounts) {
        self.reserved = self.reserved.plus(amounts);
    }

    pub(crate) fn release(&mut self, amounts: Amounts) {
        self.reserved = self.reserved.minus(amounts);
    }

    pub(crate) fn spend(&mut self, amounts: Amounts) {
        self.spent = self.spent.plus(amounts);
    }

    /// The first resource of which this share of its limit is spent.
    #[must_use]
    pub fn passed(&self, percent: u8) -> Option<Resource> {
        let passed = |resource: &Resource| {
            let cap = self.cap.of(*resource);
            cap.is_some_and(|cap| u128::from(self.spent.of(*resource)) * 100 >= u128::from(cap) * u128::from(percent))
        };
        Resource::ALL.into_iter().find(passed)
    }
}

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    /// Name of the model; a `*` at the end stands for any ending.
    pub model: String,
    /// Millionths of a US dollar for a million tokens.
    pub input_microusd: u64,
    /// The same for output.
    pub output_microusd: u64,
}

impl ModelPrice {
    /// The price of a model among several: the first that fits.
    #[must_use]
    pub fn find<'a>(prices: &'a [Self], model: &str) -> Option<&'a Self> {
        prices.iter().find(|price| match price.model.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => price.model == model,
        })
    }

    /// What so many tokens cost, in millionths of a US dollar, rounded up.
    #[must_use]
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let sum = part(input_tokens, self.input_microusd) + part(output_tokens, self.output_microusd);
        u64::try_from(sum.div_ceil(u128::from(TOKENS_PER_PRICE))).unwrap_or(u64::MAX)
    }
}

/// What one model call is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub amounts: Amounts,
    /// How long the answer may be at most; `None` when the budget has room for any.
    pub output_tokens_max: Option<u64>,
}

/// Works out what a call may take from ledgers that all have to bear it.
///
/// # Errors
/// The position of the ledger that has no room, and for what.
pub(crate) fn plan(
    ledgers: &[&Ledger],
    context_bytes: u64,
    output_tokens_wanted: u64,
    price: Option<&ModelPrice>,
) -> Result<Reservation, (usize, Resource)> {
    let input = PREFIX_TOKENS + context_bytes.div_ceil(BYTES_PER_TOKEN);
    let mut output = output_tokens_wanted;
    for (position, ledger) in ledgers.iter().enumerate() {
        if ledger.room(Resource::Steps) == Some(0) {
            return Err((position, Resource::Steps));
        }
        if let Some(room) = ledger.room(Resource::Tokens) {
            output = output.min(room.saturating_sub(input));
            if output < OUTPUT_TOKENS_MIN {
                return Err((position, Resource::Tokens));
            }
        }
        if let (Some(room), Some(price)) = (ledger.room(Resource::Money), price) {
            output = output.min(affordable(room, input, price));
            if output < OUTPUT_TOKENS_MIN {
                return Err((position, Resource::Money));
            }
        }
    }
    let microusd = price.map_or(0, |price| price.cost(input, output));
    let amounts = Amounts { steps: 1, tokens: input + output, microusd };
    Ok(Reservation { amounts, output_tokens_max: (output < output_tokens_wanted).then_some(output) })
}

/// How many tokens of output the money buys, once the input is paid.
fn affordable(room_microusd: u64, input_tokens: u64, price: &ModelPrice) -> u64 {
    let paid = price.cost(input_tokens, 0);
    let Some(rest) = room_microusd.checked_sub(paid + 1) else { return 0 };
    match price.output_microusd {
        0 => u64::MAX,
        output => {
            u64::try_from(u128::from(rest) * u128::from(TOKENS_PER_PRICE) / u128::from(output)).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(model: &str, input: u64, output: u64) -> ModelPrice {
        ModelPrice { model: model.to_owned(), input_microusd: input, output_microusd: output }
    }

    fn ledger(steps: Option<u64>, tokens: Option<u64>, microusd: Option<u64>) -> Ledger {
        Ledger::new(Budget { steps, tokens, microusd })
    }

    #[test]
    fn a_call_takes_what_the_tightest_ledger_has() {
        let (wide, tight) = (ledger(None, Some(1_000_000), None), ledger(None, Some(10_000), None));
        let planned = plan(&[&wide, &tight], 2_000, 32_768, None).expect("there is room");
        assert_eq!(planned.amounts, Amounts { steps: 1, tokens: 10_000, microusd: 0 });
        assert_eq!(planned.output_tokens_max, Some(5_000));
        let planned = plan(&[&wide], 2_000, 32_768, None).expect("there is room");
        assert_eq!((planned.amounts.tokens, planned.output_tokens_max), (37_768, None));
    }

    #[test]
    fn what_is_promised_can_not_be_promised_again() {
        let mut shared = ledger(Some(3), Some(50_000), None);
        let first = plan(&[&shared], 0, 32_768, None).expect("there is room");
        shared.reserve(first.amounts);
        let second = plan(&[&shared], 0, 32_768, None).expect("there is room for a short one");
        assert_eq!(second.output_tokens_max, Some(50_000 - first.amounts.tokens - PREFIX_TOKENS));
        shared.reserve(second.amounts);
        assert_eq!(plan(&[&shared], 0, 32_768, None), Err((0, Resource::Tokens)));
        shared.release(first.amounts);
        shared.spend(Amounts { steps: 1, tokens: 100, microusd: 0 });
        assert!(plan(&[&shared], 0, 32_768, None).is_ok(), "what was not used is free again");
    }

    #[test]
    fn money_is_counted_by_the_models_price() {
        let prices = [price("big-*", 3_000_000, 15_000_000), price("small", 0, 0)];
        assert_eq!(ModelPrice::find(&prices, "big-4").map(|price| price.cost(1_000, 1_000)), Some(18_000));
        assert!(ModelPrice::find(&prices, "smaller").is_none());
        let purse = ledger(None, None, Some(100_000));
        let planned = plan(&[&purse], 0, 32_768, Some(&prices[0])).expect("there is room");
        assert_eq!(planned.output_tokens_max, Some(5_866), "12 000 millionths for the input, the rest for the output");
        assert!(planned.amounts.microusd <= 100_000);
        let empty = ledger(None, None, Some(12_000));
        assert_eq!(plan(&[&purse, &empty], 0, 32_768, Some(&prices[0])), Err((1, Resource::Money)));
        assert!(plan(&[&empty], 0, 32_768, Some(&prices[1])).is_ok(), "a free model costs nothing");
        assert_eq!(plan(&[&ledger(Some(0), None, None)], 0, 1000, None), Err((0, Resource::Steps)));
    }

    #[test]
    fn amounts_are_shown_for_people() {
        assert_eq!(Resource::Money.show(1_230_400), "$1.2304");
        assert_eq!(Resource::Tokens.show(7), "7 tokens");
        let mut half = ledger(None, Some(100), None);
        half.spend(Amounts { tokens: 79, ..Amounts::default() });
        assert_eq!(half.passed(80), None);
        half.spend(Amounts { tokens: 1, ..Amounts::default() });
        assert_eq!(half.passed(80), Some(Resource::Tokens));
    }
}
