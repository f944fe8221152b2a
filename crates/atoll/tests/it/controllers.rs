//! `atoll controllers` against an API server behind TLS: who works, who waits, who takes over.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atoll_api::Sandbox;
use atoll_apiserver::{ApiServer, ApiServerConfig, Identity, TokenIdentity, definitions};
use atoll_rt::TaskGroup;
use atoll_rt::clock::SystemClock;
use atoll_rt::tls::{CertificateAuthority, install_crypto_provider, server_config};
use atoll_store::Store;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;

const LEASE: &str = "a3317529.agent-sandbox.x-k8s.io";
const NAMESPACE: &str = "agent-sandbox-system";
const TOKEN: &str = "token-of-the-controllers";
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// More than a lease that nobody renews lasts.
const LOOKS: u32 = 1_200;

/// An API server without controllers of its own.
struct Cluster {
    kubeconfig: PathBuf,
    client: Client,
    group: TaskGroup,
    dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        install_crypto_provider();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let group = TaskGroup::new("cluster");
        let store = Store::open(dir.path().join("control.db"), &group).expect("the store opens");
        let config = ApiServerConfig {
            store,
            definitions: definitions::builtin(),
            tokens: vec![TokenIdentity::new(TOKEN, Identity::administrator("controllers"))],
            clock: Arc::new(SystemClock),
            group: group.clone(),
        };
        let server = ApiServer::build(config).await.expect("the server is built");
        let authority = CertificateAuthority::generate().expect("an authority can be made");
        let certificate = authority.issue_server(&["127.0.0.1"]).expect("it issues certificates");
        let tls = server_config(&certificate, authority.certificate_pem()).expect("the certificate is of use");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let client = atoll_client::in_process(server.in_process(Identity::administrator("tester")));
        atoll_rt::listen::serve_https(&group, listener, tls, server.service());
        let kubeconfig = dir.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{address}"),
                "certificate-authority-data": STANDARD.encode(authority.certificate_pem()),
            }}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).expect("it is writable");
        let cluster = Self { kubeconfig, client, group, dir };
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).expect("it is a namespace");
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.expect("it is made");
        cluster
    }

    async fn holder(&self) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let lease = leases.get_opt(LEASE).await.expect("it can be asked for");
        lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty())
    }

    /// Shows that somebody works: a Sandbox gets its Pod.
    async fn works(&self, name: &str) {
        let sandbox: Sandbox = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": "main", "image": "atoll.local/host"}]}}},
        }))
        .expect("it is a Sandbox");
        let sandboxes: Api<Sandbox> = Api::default_namespaced(self.client.clone());
        sandboxes.create(&PostParams::default(), &sandbox).await.expect("it is made");
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        until("a Pod", async || pods.get_opt(name).await.expect("it can be asked for")).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.group.cancel();
    }
}

/// One `atoll controllers`. Dropping it kills it.
struct Controllers {
    process: Child,
    health: String,
    metrics: String,
}

impl Controllers {
    fn start(cluster: &Cluster, name: &str) -> Self {
        Self::with(&cluster.kubeconfig, &cluster.dir.path().join(name), &[])
    }

    fn with(kubeconfig: &Path, log: &Path, more: &[&str]) -> Self {
        let (health, metrics) = (free_address(), free_address());
        let log = std::fs::File::create(log).expect("it is writable");
        let process = Command::new(env!("CARGO_BIN_EXE_atoll"))
            .arg("controllers")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(more)
            .args(["--health-probe-bind-address", &health, "--metrics-bind-address", &metrics])
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self { process, health, metrics }
    }

    async fn get(&self, address: &str, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://{address}/{path}")).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn ready(&self) {
        until("readiness", async || self.get(&self.health, "readyz").await.filter(|(code, _)| *code == 200)).await;
    }

    async fn leads(&self) -> bool {
        let (_, text) = self.get(&self.metrics, "metrics").await.expect("metrics are served");
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.contains(&format!("leader_election_master_status{{name=\"{LEASE}\"}} 1"))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        let _ended_before = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// An address that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").to_string()
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("there never was {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_works_and_the_other_takes_over() {
    let cluster = Cluster::start().await;
    let first = Controllers::start(&cluster, "first.log");
    let holder = until("a holder", || cluster.holder()).await;
    let mut second = Controllers::start(&cluster, "second.log");
    second.ready().await;
    until("a leader", async || first.leads().await.then_some(())).await;
    assert!(!second.leads().await, "there is one leader");
    cluster.works("for-the-first").await;

    // Told to stop, it lets go of the lease.
    first.signal(rustix::process::Signal::TERM);
    let next = until("another holder", async || cluster.holder().await.filter(|next| *next != holder)).await;
    until("another leader", async || second.leads().await.then_some(())).await;
    cluster.works("for-the-second").await;

    // Killed, it holds the lease until that has not been renewed for its whole length.
    let third = Controllers::start(&cluster, "third.log");
    third.ready().await;
    second.process.kill().expect("it runs");
    until("a third holder", async || cluster.holder().await.filter(|third| *third != next)).await;
    cluster.works("for-the-third").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_lease_ends() {
    let cluster = Cluster::start().await;
    let mut only = Controllers::start(&cluster, "only.log");
    until("a holder", || cluster.holder()).await;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    // Somebody else has it now: whoever held it must not go on as if nothing had happened.
    until("a stolen lease", async || {
        let mut lease = leases.get(LEASE).await.expect("it is there");
        lease.spec.as_mut().expect("it has one").holder_identity = Some("somebody else".to_owned());
        leases.replace(LEASE, &PostParams::default(), &lease).await.ok()
    })
    .await;
    let status = until("an end", async || only.process.try_wait().expect("it can be asked")).await;
    assert_eq!(status.code(), Some(1));
    let mut log = String::new();
    let path: &Path = &cluster.dir.path().join("only.log");
    std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut log)).expect("it is readable");
    assert!(log.contains("the lease was lost to another process"), "{log}");
}

fn printed(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_atoll")).args(arguments).stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// Makes the kinds have `v1alpha1` beside `v1beta1`, converted by a webhook at an address.
async fn ask_for_webhook(client: &Client, address: &str) {
    let definitions: serde_json::Value = serde_json::from_str(&printed(&["crds", "--v1alpha1"])).expect("it is JSON");
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for mut definition in definitions["items"].as_array().expect("a list").clone() {
        let webhook = &mut definition["spec"]["conversion"]["webhook"];
        assert_eq!(webhook["clientConfig"]["service"]["namespace"], NAMESPACE);
        webhook["clientConfig"] = json!({ "url": format!("https://{address}/convert") });
        let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
        let params = PatchParams::apply("tester").force();
        api.patch(&name, &params, &Patch::Apply(definition)).await.expect("it is accepted");
    }
}

/// What the definition of sandboxes trusts.
async fn trusted(client: &Client) -> Vec<u8> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    until("a definition that trusts the webhook", async || {
        let definition = api.get("sandboxes.agents.x-k8s.io").await.expect("it is there");
        Some(definition.spec.conversion?.webhook?.client_config?.ca_bundle?.0)
    })
    .await
}

fn older(name: &str, replicas: i32) -> serde_json::Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1alpha1", "kind": "Sandbox",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "podTemplate": { "spec": { "containers": [{ "name": "main", "image": "atoll.local/host" }] } },
            "replicas": replicas,
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conversion_webhook_is_trusted_and_converts() {
    let cluster = Cluster::start().await;
    let address = free_address();
    ask_for_webhook(&cluster.client, &address).await;
    let _controllers = Controllers::with(
        &cluster.kubeconfig,
        &cluster.dir.path().join("log"),
        &["--conversion-webhook-bind-address", &address],
    );
    let bundle = trusted(&cluster.client).await;
    let authority = reqwest::Certificate::from_pem(&bundle).expect("it is a certificate");
    let client = reqwest::Client::builder().tls_certs_only([authority]);
    let client = client.build().expect("a client");
    let request = json!({ "uid": "1", "desiredAPIVersion": "agents.x-k8s.io/v1beta1", "objects": [older("a", 0)] });
    let review = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request });
    let url = format!("https://{address}/convert");
    let answer = client.post(&url).json(&review).send().await.expect("it answers, and is who it says");
    let answer: serde_json::Value = answer.json().await.expect("it is JSON");
    assert_eq!(answer["response"]["convertedObjects"][0]["spec"]["operatingMode"], "Suspended");
    assert_eq!(client.post(&url).body("{}").send().await.expect("it answers").status().as_u16(), 400);
}

/// On a real control plane alone: it calls the webhook itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_converts_by_the_webhook() {
    let (Ok(admin), Ok(controllers)) =
        (std::env::var("ATOLL_TEST_KUBECONFIG"), std::env::var("ATOLL_TEST_CONTROLLERS_KUBECONFIG"))
    else {
        println!("SKIPPED a_cluster_converts_by_the_webhook: no ATOLL_TEST_KUBECONFIG (cargo xtask cluster sets it)");
        return;
    };
    install_crypto_provider();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let client = atoll_client::from_kubeconfig(Path::new(&admin), None).await.expect("the kubeconfig is of use");
    let address = free_address();
    ask_for_webhook(&client, &address).await;
    let arguments = ["--conversion-webhook-bind-address", &address];
    let _controllers = Controllers::with(Path::new(&controllers), &dir.path().join("log"), &arguments);
    trusted(&client).await;
    let kind = |version: &str| kube::core::ApiResource {
        group: "agents.x-k8s.io".to_owned(),
        version: version.to_owned(),
        api_version: format!("agents.x-k8s.io/{version}"),
        kind: "Sandbox".to_owned(),
        plural: "sandboxes".to_owned(),
    };
    let of = |version: &str| -> Api<DynamicObject> { Api::namespaced_with(client.clone(), "default", &kind(version)) };
    let (alpha, beta) = (of("v1alpha1"), of("v1beta1"));
    let sandbox: DynamicObject = serde_json::from_value(older("converted", 0)).expect("it is an object");
    // The server learns of definitions a moment later.
    until("a sandbox in the older version", async || alpha.create(&PostParams::default(), &sandbox).await.ok()).await;
    let newer = beta.get("converted").await.expect("it is there");
    assert_eq!(newer.data["spec"]["operatingMode"], "Suspended");
    let listed = alpha.list(&kube::api::ListParams::default()).await.expect("lists are converted");
    let found = listed.items.iter().find(|it| it.metadata.name.as_deref() == Some("converted")).expect("it is listed");
    assert_eq!(found.data["spec"]["replicas"], 0);
    alpha.delete("converted", &kube::api::DeleteParams::default()).await.expect("it goes");
}

#[test]
fn what_a_cluster_needs_first_is_printed() {
    let definitions = printed(&["crds"]);
    for name in
        ["sandboxes.agents", "sandboxclaims.extensions", "sandboxtemplates.extensions", "sandboxwarmpools.extensions"]
    {
        assert!(definitions.contains(&format!("\n  name: {name}")), "{name}");
    }
    assert_eq!(definitions.matches("kind: CustomResourceDefinition\n").count(), 4);
    let roles = printed(&["controllers", "--print-rbac"]);
    assert!(roles.contains("kind: ClusterRoleBinding"), "{roles}");
    assert!(!roles.contains('*'), "every verb and resource is named");
}
