use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::floor::Floor;

fn pod(name: &str, namespace: &str, host: u8, labels: &[(&str, &str)]) -> PodFacts {
    PodFacts {
        uid: format!("uid-{name}"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        address: Some(Ipv4Addr::new(10, 201, 0, host)),
        ports: vec![NamedPort { name: "web".to_owned(), protocol: Protocol::Tcp, number: 8000 + u16::from(host) }],
    }
}

/// `web` and `db` in `team`, `db` in `other`; policies of `team` as given.
fn cluster(floor: &str, specs: &[Value]) -> Cluster {
    let namespace = |name: &str| {
        let labels: Labels = [("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into();
        (name.to_owned(), labels)
    };
    let policy = |spec: &Value| {
        let object = json!({"metadata": {"name": "p", "namespace": "team"}, "spec": spec});
        Arc::new(serde_json::from_value(object).expect("a policy"))
    };
    Cluster {
        pods: vec![
            pod("web", "team", 2, &[("app", "web")]),
            pod("db", "team", 3, &[("app", "db")]),
            pod("far-db", "other", 4, &[("app", "db")]),
        ],
        namespaces: [namespace("team"), namespace("other")].into(),
        policies: specs.iter().map(policy).collect(),
        permitted: Floor::parse(floor, &[]).expect("a floor").permitted(),
    }
}

fn compiled(floor: &str, specs: &[Value]) -> Compiled {
    let cluster = cluster(floor, specs);
    compile(&cluster, &cluster.pods[0])
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

const DB: &str = "10.201.0.3";
const FAR_DB: &str = "10.201.0.4";

#[test]
fn nothing_selected_nothing_allowed() {
    assert_eq!(compiled("public", &[]), Compiled::default());
    let elsewhere = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"], "egress": [{}]});
    assert_eq!(compiled("public", &[elsewhere]), Compiled::default());
    let nothing = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    assert_eq!(compiled("public", &[nothing]), Compiled::default());
}

#[test]
fn peers_are_selected_by_namespace_and_labels() {
    let db = json!({"matchLabels": {"app": "db"}});
    let other = json!({"matchLabels": {"kubernetes.io/metadata.name": "other"}});
    for (peer, near, far) in [
        (json!({"podSelector": db}), true, false),
        (json!({"podSelector": {}}), true, false),
        (json!({"namespaceSelector": {}}), true, true),
        (json!({"namespaceSelector": other}), false, true),
        (json!({"namespaceSelector": other, "podSelector": db}), false, true),
        (json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "none"}}}), false, false),
        (json!({"ipBlock": {"cidr": "10.201.0.0/16"}}), false, false),
        (json!({}), false, false),
    ] {
        let port = json!([{"port": 6333}]);
        let found = compiled(
            "0.0.0.0/0",
            &[json!({
                "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": [peer], "ports": port}],
                "ingress": [{"from": [peer], "ports": port}],
            })],
        );
        for (address, expected) in [(DB, near), (FAR_DB, far)] {
            for rules in [&found.rules.egress, &found.rules.ingress] {
                assert_eq!(allows(rules, ip(address), 6333), expected, "{peer} {address}");
                assert!(!allows(rules, ip(address), 6334), "{peer} {address}");
            }
        }
    }
}

#[test]
fn policies_add_up() {
    let to = |app: &str| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"app": app}}}]}]});
    let found = compiled("", &[to("db"), to("web")]);
    assert!(allows(&found.rules.egress, ip(DB), 1) && allows(&found.rules.egress, ip("10.201.0.2"), 1));
    assert!(found.rules.ingress.is_empty());
}

#[test]
fn ports_are_numbers_ranges_and_names() {
    for (ports, egress, ingress) in [
        (json!([{"port": 80}]), vec![80], vec![80]),
        (json!([{"protocol": "UDP", "port": 80}]), vec![], vec![]),
        (json!([{"port": 80, "endPort": 82}]), vec![80, 81, 82], vec![80, 81, 82]),
        (json!([{"port": "web"}]), vec![8003], vec![8002]),
        (json!([{"port": "none"}]), vec![], vec![]),
        (json!([{"protocol": "TCP"}]), vec![80, 81, 82, 83, 8002, 8003], vec![80, 81, 82, 83, 8002, 8003]),
        (json!([]), vec![80, 81, 82, 83, 8002, 8003], vec![80, 81, 82, 83, 8002, 8003]),
    ] {
        let peer = json!([{"podSelector": {"matchLabels": {"app": "db"}}}]);
        let found = compiled(
            "",
            &[json!({
                "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": peer, "ports": ports}], "ingress": [{"from": peer, "ports": ports}],
            })],
        );
        let open = |rules: &[NetworkRule]| -> Vec<u16> {
            [80, 81, 82, 83, 8002, 8003].into_iter().filter(|port| allows(rules, ip(DB), *port)).collect()
        };
        assert_eq!((open(&found.rules.egress), open(&found.rules.ingress)), (egress, ingress), "{ports}");
        found.rules.validate().expect("rules that the launcher takes");
    }
}

#[test]
fn the_floor_cuts_what_leaves() {
    let block = |cidr: &str, except: Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": cidr, "except": except}}]}]});
    let everywhere = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    for (floor, spec, open, cut) in [
        ("", block("0.0.0.0/0", json!([])), vec![], true),
        ("", block("::/0", json!([])), vec![], false),
        ("public", block("0.0.0.0/0", json!(["10.0.0.0/8", "1.0.0.0/8"])), vec!["8.8.8.8"], true),
        ("public", block("8.0.0.0/8", json!(["8.8.8.0/24"])), vec![], false),
        ("public", block("8.0.0.0/8", json!(["8.8.8.0/99"])), vec![], false),
        ("public", block("169.254.169.254/32", json!([])), vec![], true),
        ("0.0.0.0/0", block("169.254.169.254/32", json!([])), vec![], true),
        ("192.168.5.0/24", block("192.168.0.0/16", json!([])), vec!["192.168.5.5"], true),
        ("public", everywhere.clone(), vec!["8.8.8.8", "1.1.1.1"], true),
        ("", everywhere, vec![], true),
    ] {
        let found = compiled(floor, std::slice::from_ref(&spec));
        for address in ["8.8.8.8", "1.1.1.1", "192.168.5.5", "169.254.169.254", "10.201.0.1"] {
            assert_eq!(found.allows_outside(ip(address), 443), open.contains(&address), "{floor:?} {spec} {address}");
        }
        assert_eq!(found.cut_by_floor, cut, "{floor:?} {spec}");
    }
}

#[test]
fn a_rule_without_peers_reaches_every_sandbox() {
    let found = compiled(
        "",
        &[json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]})],
    );
    assert!(allows(&found.rules.egress, ip(DB), 8003) && allows(&found.rules.egress, ip(FAR_DB), 8004));
    assert!(!allows(&found.rules.egress, ip(DB), 8004));
}

#[test]
fn the_resolver_is_meant_by_its_label_or_by_everybody() {
    let dns = json!([{"protocol": "UDP", "port": 53}]);
    let resolver = json!({"matchLabels": {"k8s-app": "kube-dns"}});
    for (rule, expected) in [
        (json!({"to": [{"podSelector": resolver}], "ports": dns}), true),
        (json!({"to": [{"namespaceSelector": {}, "podSelector": resolver}], "ports": dns}), true),
        (json!({"to": [{"namespaceSelector": {}}], "ports": dns}), true),
        (json!({"ports": dns}), true),
        (json!({}), true),
        (json!({"to": [{"podSelector": resolver}], "ports": [{"protocol": "TCP", "port": 53}]}), false),
        (json!({"to": [{"podSelector": resolver}], "ports": [{"protocol": "UDP", "port": 54}]}), false),
        (json!({"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": dns}), false),
        (json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": dns}), false),
    ] {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]});
        assert_eq!(compiled("", &[spec]).resolver, expected, "{rule}");
    }
}

#[test]
fn types_are_filled_in_as_the_server_does() {
    let found = compiled("", &[json!({"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}], "ingress": [{}]})]);
    assert!(!found.rules.egress.is_empty() && !found.rules.ingress.is_empty());
    let found = compiled(
        "",
        &[json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{"to": [{"podSelector": {}}]}]})],
    );
    assert!(found.rules.egress.is_empty());
}
