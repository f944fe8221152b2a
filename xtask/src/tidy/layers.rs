//! Which crate may know which: the architecture as a table, checked against `cargo metadata`.

use std::collections::BTreeMap;

use serde_json::Value;

/// Each crate's layer: it may depend on crates of lower layers, and on those of its own that are named.
const LAYERS: &[(&str, u32)] = &[
    ("atoll-stdx", 0),
    ("atoll-api", 1),
    ("atoll-policy", 1),
    ("atoll-rt", 1),
    ("atoll-guest", 1),
    ("atoll-image", 1),
    ("atoll-engine", 2),
    ("atoll-store", 2),
    ("atoll-sandbox", 2),
    ("atoll-client", 2),
    ("atoll-apiserver", 3),
    ("atoll-controllers", 3),
    ("atoll-node", 3),
    ("atoll-router", 3),
    ("atoll-egress", 3),
    ("atoll-trace", 3),
    ("atoll-orchestrator", 3),
    ("atoll-gateway", 4),
    ("atoll-sim", 4),
    ("atoll", 5),
    ("xtask", 9),
];

/// `from` never depends on `to`, for `because`. A trailing `*` stands for any ending.
struct Ban {
    from: &'static [&'static str],
    to: &'static [&'static str],
    because: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        from: &["atoll-stdx", "atoll-policy", "atoll-engine"],
        to: &["tokio", "hyper", "reqwest", "kube", "rustls", "rusqlite", "axum", "jiff"],
        because: "pure crates reach no IO and no clock, so that they can be replayed",
    },
    Ban {
        from: &[
            "atoll-controllers",
            "atoll-node",
            "atoll-router",
            "atoll-egress",
            "atoll-gateway",
            "atoll-orchestrator",
        ],
        to: &["atoll-apiserver"],
        because: "objects are reached through atoll-client only: embedded and remote are the same path",
    },
    Ban {
        from: &["atoll-apiserver"],
        to: &["atoll-api", "atoll-controllers", "atoll-engine", "atoll-sandbox", "atoll-node", "atoll-gateway"],
        because: "the API server knows kinds by their schema, never what a Sandbox means",
    },
    Ban {
        from: &["atoll-sandbox", "atoll-guest"],
        to: &["atoll-api", "atoll-client", "kube*", "k8s-openapi"],
        because: "isolation tiers know nothing of Kubernetes",
    },
    Ban {
        from: &["atoll-guest"],
        to: &["tokio", "hyper", "atoll-rt"],
        because: "the guest is small: it is in every sandbox",
    },
    Ban {
        from: &[
            "atoll-api",
            "atoll-client",
            "atoll-controllers",
            "atoll-node",
            "atoll-router",
            "atoll-egress",
            "atoll-gateway",
        ],
        to: &["atoll-store"],
        because: "only the API server, traces, the orchestrator and the binary keep things",
    },
    Ban {
        from: &["atoll-gateway", "atoll-router"],
        to: &["atoll-trace"],
        because: "telemetry must not be able to stop traffic",
    },
    Ban {
        from: &["atoll-orchestrator"],
        to: &["atoll-gateway"],
        because: "model calls go over HTTP, so that keys and budgets stay in one place",
    },
    Ban { from: &["xtask"], to: &["atoll*"], because: "xtask works when the tree does not compile" },
];

/// Complaints about the workspace's dependencies. Development dependencies are free.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layers.get(name) else {
            complaints.push(format!("{name}: has no layer; give it one in xtask/src/tidy/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"] == "dev" {
                continue;
            }
            let to = dependency["name"].as_str().unwrap_or_default();
            if layers.get(to).is_some_and(|other| other >= layer) {
                complaints.push(format!("{name} (layer {layer}) must not depend on {to}: dependencies point down"));
            }
            complaints.extend(banned(name, to));
        }
    }
    complaints
}

fn banned(from: &str, to: &str) -> Option<String> {
    BANS.iter()
        .find(|ban| ban.from.contains(&from) && ban.to.iter().any(|pattern| matches(pattern, to)))
        .map(|ban| format!("{from} must not depend on {to}: {}", ban.because))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workspace(from: &str, to: &str, kind: Option<&str>) -> Value {
        json!({"packages": [{"name": from, "dependencies": [{"name": to, "kind": kind}]}]})
    }

    #[test]
    fn edges_are_judged() {
        for (from, to, kind, allowed) in [
            ("atoll-engine", "atoll-policy", None, true),
            ("atoll-engine", "tokio", None, false),
            ("atoll-engine", "tokio", Some("dev"), true),
            ("atoll-node", "atoll-apiserver", None, false),
            ("atoll-store", "atoll-client", None, false),
            ("atoll-guest", "kube-core", None, false),
            ("atoll", "atoll-apiserver", None, true),
            ("unheard-of", "serde", None, false),
        ] {
            assert_eq!(check(&workspace(from, to, kind)).is_empty(), allowed, "{from} -> {to} ({kind:?})");
        }
    }
}
