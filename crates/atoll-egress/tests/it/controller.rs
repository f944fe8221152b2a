use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, definitions};
use atoll_egress::controller::{FLOOR_CONDITION, FLOOR_NAME, FLOOR_NAMESPACE, NotEnforced, ProxyFeed};
use atoll_egress::grants::{Grant, Grants};
use atoll_egress::name::HostName;
use atoll_egress::node_credentials::NodeCredentials;
use atoll_egress::policy::allows;
use atoll_egress::{EgressConfig, EgressController, Enforcer, Snapshot};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_sandbox::network::rules::{NetworkRules, ProxyPorts};
use atoll_store::Store;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

const NODE: &str = "this-node";

#[derive(Default)]
struct Kept {
    rules: Mutex<BTreeMap<String, NetworkRules>>,
    refuses: Mutex<bool>,
}

#[async_trait]
impl Enforcer for Kept {
    async fn set_network(&self, id: &str, rules: NetworkRules) -> Result<(), NotEnforced> {
        if *self.refuses.lock().expect("no holder panics") && rules != NetworkRules::default() {
            return Err(NotEnforced::Refused("too many".to_owned()));
        }
        self.rules.lock().expect("no holder panics").insert(id.to_owned(), rules);
        Ok(())
    }
}

struct Cluster {
    client: kube::Client,
    kept: Arc<Kept>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    controller: EgressController,
    grants: Grants,
    group: TaskGroup,
    _directory: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.group.cancel();
    }
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let group = TaskGroup::new("test");
        let store = Store::open(directory.path().join("control.db"), &group).expect("a store");
        let server = ApiServer::build(ApiServerConfig {
            store,
            definitions: definitions::builtin(),
            tokens: vec![],
            clock: Arc::new(SystemClock),
            group: group.clone(),
        })
        .await
        .expect("a server");
        let client = kube::Client::new(server.in_process(Identity::administrator("test")), "default");
        let node = object::<Node>(json!({"metadata": {"name": NODE}}));
        Api::all(client.clone()).create(&PostParams::default(), &node).await.expect("a node");
        let kept = Arc::<Kept>::default();
        let (sender, snapshots) = watch::channel(Arc::default());
        let grants = Grants::default();
        let config = EgressConfig {
            node_name: NODE.to_owned(),
            machine_addresses: vec![Ipv4Addr::new(203, 0, 114, 1)],
            proxy: Some(ProxyFeed { ports: ProxyPorts { tcp: 1, dns: 2 }, snapshots: sender }),
            grants: grants.clone(),
            credentials: NodeCredentials::default(),
        };
        let own = kube::Client::new(server.in_process(Identity::new("system:atoll:egress", &[])), "default");
        let controller = EgressController::start(own, Arc::clone(&kept) as Arc<dyn Enforcer>, config, &group);
        controller.synced().await;
        Self { client, kept, snapshots, controller, grants, group, _directory: directory }
    }

    async fn pod(&self, name: &str, address: &str, labels: Value) -> String {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "atoll.local/host"}]},
        });
        let created = pods.create(&PostParams::default(), &object(pod)).await.expect("a Pod");
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("a status");
        created.metadata.uid.expect("a UID")
    }

    async fn config_map(&self, namespace: &str, name: &str, labels: Value, key: &str, text: &str) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {key: text}});
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(map)).await.expect("a ConfigMap");
    }

    async fn rules(&self, text: &str) {
        self.config_map("default", "rules", json!({"atoll.local/egress": "rules"}), "egress.yaml", text).await;
    }

    fn enforced(&self, uid: &str) -> NetworkRules {
        self.kept.rules.lock().expect("no holder panics").get(uid).cloned().unwrap_or_default()
    }

    /// Waits for what the proxy is told of an address.
    async fn told(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let mut snapshots = self.snapshots.clone();
        let found = snapshots.wait_for(|snapshot| holds(snapshot));
        let waited = tokio::time::timeout(Duration::from_secs(20), found).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.snapshots.borrow());
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("this never came true: {what}");
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn policies_are_enforced_and_follow_pods() {
    let cluster = Cluster::start().await;
    let web = cluster.pod("web", "10.201.0.2", json!({"app": "web"})).await;
    eventually("a Pod is turned to the proxy", || cluster.enforced(&web).proxy.is_some()).await;
    assert!(cluster.enforced(&web).egress.is_empty() && cluster.enforced(&web).ingress.is_empty());

    let policies: Api<NetworkPolicy> = Api::default_namespaced(cluster.client.clone());
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 6333}]}],
    }});
    policies.create(&PostParams::default(), &object(policy)).await.expect("a policy");
    cluster.pod("db", "10.201.0.3", json!({"app": "db"})).await;
    eventually("the rule follows the Pod that it selects", || {
        allows(&cluster.enforced(&web).egress, ip("10.201.0.3"), 6333)
    })
    .await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let now = DeleteParams::default().grace_period(0);
    pods.delete("db", &now).await.expect("it is deleted");
    eventually("the rule goes with it", || !allows(&cluster.enforced(&web).egress, ip("10.201.0.3"), 6333)).await;
    policies.delete("p", &DeleteParams::default()).await.expect("it is deleted");
    eventually("nothing is left", || cluster.enforced(&web).egress.is_empty()).await;
}

#[tokio::test]
async fn what_cannot_be_enforced_is_closed() {
    let cluster = Cluster::start().await;
    let web = cluster.pod("web", "10.201.0.2", json!({})).await;
    eventually("it is turned to the proxy", || cluster.enforced(&web).proxy.is_some()).await;
    *cluster.kept.refuses.lock().expect("no holder panics") = true;
    let policies: Api<NetworkPolicy> = Api::default_namespaced(cluster.client.clone());
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [{}]}});
    policies.create(&PostParams::default(), &object(policy)).await.expect("a policy");
    eventually("everything is closed", || cluster.enforced(&web) == NetworkRules::default()).await;
}

#[tokio::test]
async fn the_floor_is_told_and_followed() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let condition = async || {
        let node = nodes.get(NODE).await.expect("the node");
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == FLOOR_CONDITION)
    };
    let told = async |status: &str| {
        for _ in 0..500 {
            if let Some(found) = condition().await.filter(|condition| condition.status == status) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the condition is never {status}");
    };
    let closed = told("True").await;
    assert!(closed.message.expect("a message").contains("atoll egress floor public"));
    let web = cluster.pod("web", "10.201.0.2", json!({})).await;
    let policies: Api<NetworkPolicy> = Api::default_namespaced(cluster.client.clone());
    let policy =
        json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}});
    policies.create(&PostParams::default(), &object(policy)).await.expect("a policy");
    cluster
        .told("the policy is known", |snapshot| {
            snapshot.sandboxes.get(&ip("10.201.0.2")).is_some_and(|policy| policy.resolver)
        })
        .await;
    assert!(!allows(&cluster.enforced(&web).egress, ip("8.8.8.8"), 443));
    cluster.config_map(FLOOR_NAMESPACE, FLOOR_NAME, json!({}), "open", "public").await;
    eventually("public addresses are open", || allows(&cluster.enforced(&web).egress, ip("8.8.8.8"), 443)).await;
    for address in ["169.254.169.254", "10.0.0.1", "203.0.114.1", "127.0.0.1"] {
        assert!(!allows(&cluster.enforced(&web).egress, ip(address), 443), "{address}");
    }
    told("False").await;
    cluster.config_map(FLOOR_NAMESPACE, FLOOR_NAME, json!({}), "open", "nonsense").await;
    eventually("nonsense closes it", || !allows(&cluster.enforced(&web).egress, ip("8.8.8.8"), 443)).await;
}

#[tokio::test]
async fn rules_by_name_reach_the_proxy() {
    let cluster = Cluster::start().await;
    let template = atoll_stdx::name_hash("python");
    let labels = json!({"agents.x-k8s.io/sandbox-template-ref-hash": template});
    let uid = cluster.pod("box", "10.201.0.2", labels).await;
    cluster.pod("other", "10.201.0.3", json!({})).await;
    let allowed = |snapshot: &Snapshot, address: &str| -> Vec<String> {
        let policy = snapshot.sandboxes.get(&ip(address));
        policy.into_iter().flat_map(|policy| &policy.allow).map(|active| active.allow.called()).collect()
    };
    assert!(!cluster.controller.needs_trust(&uid).await);
    cluster.rules("template: python\nallow: [{name: a.example, methods: [GET]}]").await;
    cluster
        .told("the template's sandbox has the rule", |snapshot| {
            allowed(snapshot, "10.201.0.2") == ["a.example"] && allowed(snapshot, "10.201.0.3").is_empty()
        })
        .await;
    assert!(cluster.controller.needs_trust(&uid).await);
    cluster.rules("allow: [{name: 1.2.3.4}]").await;
    cluster
        .told("rules that are not understood are not in force", |snapshot| allowed(snapshot, "10.201.0.2").is_empty())
        .await;
    eventually("and are told of", || cluster.controller.problems().iter().any(|text| text.contains("default/rules")))
        .await;
}

#[tokio::test]
async fn tokens_come_from_secrets_and_grants_end() {
    let cluster = Cluster::start().await;
    cluster.pod("box", "10.201.0.2", json!({})).await;
    cluster.rules("allow: [{name: forge.example, onApproval: true, credential: {secret: forge}}]").await;
    let active = |snapshot: &Snapshot| {
        let policy = snapshot.sandboxes.get(&ip("10.201.0.2"))?;
        let active = policy.allow.first()?;
        let token = active.credential.as_ref()?.token.as_ref().map(|token| token.expose().clone());
        Some((active.granted, token))
    };
    cluster.told("without a Secret there is no token", |snapshot| active(snapshot) == Some((false, None))).await;
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client.clone());
    let secret = json!({"metadata": {"name": "forge"}, "stringData": {"token": "a-real-token\n"}});
    secrets.create(&PostParams::default(), &object(secret)).await.expect("a Secret");
    let token = || Some("a-real-token".to_owned());
    cluster.told("the token is there", |snapshot| active(snapshot) == Some((false, token()))).await;
    let grant = Grant { namespace: "default".into(), sandbox: "box".into(), name: "forge.example".into() };
    let id = cluster.grants.give(grant.clone(), 600).expect("it is given");
    cluster.told("it is granted", |snapshot| active(snapshot) == Some((true, token()))).await;
    assert!(cluster.grants.take_back(id));
    cluster.told("it is taken back", |snapshot| active(snapshot) == Some((false, token()))).await;
    cluster.grants.give(grant, 1).expect("it is given");
    cluster.told("it is granted again", |snapshot| active(snapshot) == Some((true, token()))).await;
    cluster.told("it ends by itself", |snapshot| active(snapshot) == Some((false, token()))).await;
}

#[tokio::test]
async fn services_have_the_addresses_of_their_pods() {
    let cluster = Cluster::start().await;
    cluster.pod("db", "10.201.0.3", json!({"app": "db"})).await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"selector": {"app": "db"}, "clusterIP": "None"}});
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::default_namespaced(cluster.client.clone());
    services.create(&PostParams::default(), &object(service)).await.expect("a Service");
    let name = HostName::parse("db.default.svc.cluster.local").expect("a name");
    cluster
        .told("the Service's name is known", |snapshot| snapshot.services.get(&name) == Some(&vec![ip("10.201.0.3")]))
        .await;
}
