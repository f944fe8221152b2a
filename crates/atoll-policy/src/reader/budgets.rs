//! Budgets and prices.

use crate::document::{BudgetLimits, Budgets, Price};
use crate::yaml::{Kind, Node};

use super::{Outcome, Reader};

const BUDGET_KEYS: [&str; 4] = ["money", "tokens", "steps", "time"];
const MICRO: u64 = 1_000_000;
const AMOUNT_MAX: u64 = 1_000_000_000_000;

impl Reader<'_> {
    /// `budget` of an agent, and `governance.budgets.run`.
    pub(super) fn budget(&self, node: &Node, what: &str) -> Outcome<BudgetLimits> {
        let mut limits = BudgetLimits::default();
        for (key, node) in self.mapping(node, what, &BUDGET_KEYS)? {
            match key.text.as_str() {
                "money" => limits.microusd = Some(self.money(node, "money")?),
                "tokens" => limits.tokens = Some(self.amount(node, "tokens")?),
                "steps" => limits.steps = Some(self.amount(node, "steps")?),
                _ => limits.time = Some(self.duration(node, "time")?),
            }
        }
        Ok(limits)
    }

    /// `governance.budgets`.
    pub(super) fn budgets(&self, node: &Node) -> Outcome<Budgets> {
        let mut budgets = Budgets::default();
        let mut money_at = None;
        for (key, node) in self.mapping(node, "`budgets`", &["run", "agents_at_once", "soft", "prices"])? {
            match key.text.as_str() {
                "run" => {
                    budgets.run = self.budget(node, "`run`")?;
                    money_at = budgets.run.microusd.map(|_| node.place);
                }
                "agents_at_once" => budgets.agents_at_once = Some(self.number(node, "agents_at_once", 1..=1000)?),
                "soft" => {
                    let percent = self.number(node, "soft", 1..=100)?;
                    budgets.soft_percent = u8::try_from(percent).ok();
                }
                _ => budgets.prices = self.prices(node)?,
            }
        }
        match money_at {
            Some(place) if budgets.prices.is_empty() => {
                let hint = "add `prices`, for example `- {model: \"*\", input: 3.00, output: 15.00}`".to_owned();
                Err(self.error(place, "`money` is limited, and no model has a price".to_owned(), None, Some(hint)))
            }
            _ => Ok(budgets),
        }
    }

    fn prices(&self, node: &Node) -> Outcome<Vec<Price>> {
        let mut prices = Vec::new();
        for item in self.items(node, "prices", "prices of models")? {
            let (mut model, mut input, mut output) = (None, None, None);
            for (key, node) in self.mapping(item, "a price", &["model", "input", "output"])? {
                match key.text.as_str() {
                    "model" => model = Some(self.text(node, "model", "a model's name, `*` at its end for any")?),
                    "input" => input = Some(self.money(node, "input")?),
                    _ => output = Some(self.money(node, "output")?),
                }
            }
            let (Some(model), Some(input_microusd), Some(output_microusd)) = (model, input, output) else {
                let expected = "`model`, `input` and `output`, in US dollars for a million tokens".to_owned();
                return Err(self.error(item.place, "a price is not complete".to_owned(), Some(expected), None));
            };
            prices.push(Price { model: model.to_owned(), input_microusd, output_microusd });
        }
        Ok(prices)
    }

    fn amount(&self, node: &Node, what: &str) -> Outcome<u64> {
        let expected = format!("a whole number from 1 to {AMOUNT_MAX}");
        let number = self.text(node, what, &expected)?.replace('_', "").parse::<u64>().ok();
        let number = number.filter(|number| (1..=AMOUNT_MAX).contains(number));
        number.ok_or_else(|| self.wrong(node, &format!("`{what}`"), &expected))
    }

    /// US dollars, as millionths.
    fn money(&self, node: &Node, what: &str) -> Outcome<u64> {
        let expected = "US dollars such as 5 or 0.25";
        let Kind::Scalar { text, .. } = &node.kind else {
            return Err(self.wrong(node, &format!("`{what}`"), expected));
        };
        parse_money(text).ok_or_else(|| self.wrong(node, &format!("`{what}`"), expected))
    }
}

fn parse_money(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let micro: u64 = format!("{part:0<6}").parse().ok()?;
    let total = whole.parse::<u64>().ok()?.checked_mul(MICRO)?.checked_add(micro)?;
    (total <= AMOUNT_MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_exactly() {
        for (text, expected) in [
            ("5", Some(5_000_000)),
            ("0.25", Some(250_000)),
            ("3.000001", Some(3_000_001)),
            ("0", Some(0)),
            ("-1", None),
            ("1e3", None),
            ("1.", None),
            (".5", None),
            ("1.0000001", None),
            ("99999999999999", None),
        ] {
            assert_eq!(parse_money(text), expected, "{text}");
        }
    }
}
