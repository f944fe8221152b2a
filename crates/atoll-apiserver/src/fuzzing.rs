//! Entry points for fuzzers: each takes any bytes, and comes back. `tools/fuzz` runs them for as long as one likes; the
//! ordinary tests run each on seeds and what a seeded generator makes of them.

use std::sync::LazyLock;

use serde_json::Value;

use crate::cel::{self, OBJECT_COST_MAX, Program, Subject};
use crate::definitions::{ResourceDefinition, builtin};
use crate::patch;
use crate::payload::{Document, Encoding};
use crate::selectors::LabelSelector;

/// A target by name, with inputs to begin with.
pub struct Target {
    /// As `tools/fuzz` calls it.
    pub name: &'static str,
    /// Takes an input.
    pub run: fn(&[u8]),
    /// Inputs that reach far.
    pub seeds: &'static [&'static str],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "json_body",
        run: json_body,
        seeds: &[r#"{"a": [1, {"b": null}], "a": "x"}"#, "[[[", "\"\\u0000\""],
    },
    Target {
        name: "yaml_body",
        run: yaml_body,
        seeds: &["a: [1, {b: ~}]\nc: &x {d: e}\nf: *x\n", "- - - a", "? b\n: |\n  x\n"],
    },
    Target {
        name: "protobuf_body",
        run: protobuf_body,
        seeds: &["k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05\x0a\x03\x0a\x01x\x1a\x00\x22\x00"],
    },
    Target {
        name: "patches",
        run: patches,
        seeds: &[
            "{\"a\": [1]}\n[{\"op\": \"add\", \"path\": \"/a/-\", \"value\": 1}]",
            "{\"spec\": {\"containers\": [{\"name\": \"a\"}]}}\n{\"spec\": {\"containers\": [{\"$patch\": \"delete\", \"name\": \"a\"}]}}",
        ],
    },
    Target { name: "selectors", run: selectors, seeds: &["a=b,c!=d,e in (f,g),!h,i notin (j)", "x>1,y<2", "a in ("] },
    Target {
        name: "rules",
        run: rules,
        seeds: &[
            "self.spec.volumeClaimTemplates.all(a, a.metadata.name != 'x')",
            "has(self.spec) ? 1 : 'a'",
            "[1].map(a, a + 1u)",
        ],
    },
    Target {
        name: "continue_tokens",
        run: continue_tokens,
        seeds: &["eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0"],
    },
];

static DEFINITIONS: LazyLock<Vec<ResourceDefinition>> = LazyLock::new(builtin);

fn definition(kind: &str) -> &'static ResourceDefinition {
    DEFINITIONS.iter().find(|definition| definition.kind == kind).expect("a known kind")
}

fn json_body(bytes: &[u8]) {
    if let Ok(document) = Document::parse(bytes, Encoding::Json) {
        take_in(document.value);
    }
}

fn yaml_body(bytes: &[u8]) {
    if let Ok(document) = Document::parse(bytes, Encoding::Yaml) {
        take_in(document.value);
    }
}

fn protobuf_body(bytes: &[u8]) {
    if let Ok(document) = Document::parse(bytes, Encoding::Protobuf) {
        take_in(document.value);
    }
}

/// What happens to every body: it is brought into shape, defaulted and checked.
fn take_in(value: Value) {
    for kind in ["Pod", "Sandbox", "CustomResourceDefinition"] {
        let (definition, mut object) = (definition(kind), value.clone());
        if object.is_object() && definition.decode(&mut object).is_ok() {
            definition.default(&mut object);
            definition.prepare_for_create(&mut object);
            let _causes = definition.validate_create(&object);
        }
    }
}

/// An object, a line break, a patch.
fn patches(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some((object, change)) = text.split_once('\n') else { return };
    let (Ok(object), Ok(change)) = (serde_json::from_str::<Value>(object), serde_json::from_str::<Value>(change))
    else {
        return;
    };
    let _merged = patch::merge_patch(&object, &change);
    let _changed = patch::json_patch(&object, &change);
    let _strategic = patch::strategic_merge_patch(&object, &change, &definition("Pod").schema);
}

fn selectors(bytes: &[u8]) {
    if let Ok(selector) = LabelSelector::parse(&String::from_utf8_lossy(bytes)) {
        let labels = [("a".into(), "b".into()), ("x".into(), "7".into())];
        let _either = selector.matches(&labels);
    }
}

fn rules(bytes: &[u8]) {
    let Ok(program) = Program::parse(&String::from_utf8_lossy(bytes)) else { return };
    let node = definition("Sandbox").schema.root();
    let _checked = cel::check(program.expression(), node, true, false);
    let object =
        serde_json::json!({ "spec": { "replicas": 1, "podTemplate": { "metadata": { "labels": { "a": "b" } } } } });
    let mut budget = OBJECT_COST_MAX;
    let _outcome =
        program.holds(Subject { node, value: &object, old: Some(&object), optional_old: false }, &mut budget);
}

fn continue_tokens(bytes: &[u8]) {
    crate::verbs::check_continue_token(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;

    const INPUTS: usize = 150;
    const INPUTS_SOAK: usize = 20_000;

    /// A seed with a part taken out, doubled, or replaced by bytes.
    fn mutated(seed: &[u8], from: usize, length: usize, with: &[u8]) -> Vec<u8> {
        let from = from % (seed.len() + 1);
        let to = (from + length).min(seed.len());
        [&seed[..from], with, &seed[to..]].concat()
    }

    #[test]
    fn every_target_comes_back() {
        // The same inputs in every run.
        let mut runner = TestRunner::deterministic();
        let inputs = if std::env::var_os("ATOLL_SOAK").is_some() { INPUTS_SOAK } else { INPUTS };
        let change = (0_usize..200, 0_usize..12, proptest::collection::vec(proptest::num::u8::ANY, 0..6));
        for target in TARGETS {
            for seed in target.seeds {
                (target.run)(seed.as_bytes());
                for _ in 0..inputs {
                    let (from, length, with) = change.new_tree(&mut runner).expect("a change").current();
                    (target.run)(&mutated(seed.as_bytes(), from, length, &with));
                }
            }
        }
    }
}
