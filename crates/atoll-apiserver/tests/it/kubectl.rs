//! kubectl, over TLS.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::served::Served;

/// kubectl with a configuration; `None`, said aloud, where there is none.
async fn kubectl(served: &Served, test: &str) -> Option<Kubectl> {
    let found =
        Command::new("kubectl").args(["version", "--client"]).output().await.is_ok_and(|it| it.status.success());
    if !found {
        println!("SKIPPED {test}: kubectl is not installed");
        return None;
    }
    let config = served.write("kubeconfig", &served.with_token("admin-token").to_string());
    let cache = served.folder().join("cache");
    Some(Kubectl { config, cache })
}

struct Kubectl {
    config: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.config).arg("--cache-dir").arg(&self.cache);
        command.args(arguments.split_whitespace()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &str) -> (bool, String, String) {
        let output = self.command(arguments).output().await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    async fn ok(&self, arguments: &str) -> String {
        let (success, out, error) = self.run(arguments).await;
        assert!(success, "kubectl {arguments}: {error}");
        out
    }
}

const SANDBOX: &str = "
apiVersion: agents.x-k8s.io/v1beta1
kind: Sandbox
metadata:
  name: one
  labels: {app: web}
spec:
  podTemplate:
    spec:
      containers:
      - name: main
        image: atoll.local/host
";

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  colour: red
  size: small
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_and_shows() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_applies_and_shows").await else { return };
    let map = served.write("map.yaml", CONFIG_MAP).display().to_string();
    assert_eq!(kubectl.ok(&format!("apply -f {map}")).await.trim(), "configmap/settings created");
    assert_eq!(kubectl.ok(&format!("apply -f {map}")).await.trim(), "configmap/settings unchanged");
    served.write("map.yaml", &CONFIG_MAP.replace("  size: small\n", "  shape: round\n"));
    assert_eq!(kubectl.ok(&format!("apply -f {map}")).await.trim(), "configmap/settings configured");
    let data = kubectl.ok("get cm settings -o jsonpath={.data}").await;
    assert_eq!(data, r#"{"colour":"red","shape":"round"}"#, "what is applied no more goes");

    let file = served.write("sandbox.yaml", SANDBOX).display().to_string();
    assert_eq!(
        kubectl.ok(&format!("apply --server-side -f {file}")).await.trim(),
        "sandbox.agents.x-k8s.io/one serverside-applied"
    );
    assert_eq!(
        kubectl.ok(&format!("apply --server-side -f {file}")).await.trim(),
        "sandbox.agents.x-k8s.io/one serverside-applied"
    );
    let table = kubectl.ok("get sandboxes -A").await;
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().expect("heads").split_whitespace().collect();
    assert_eq!(heads, ["NAMESPACE", "NAME", "READY", "REASON", "AGE"]);
    assert!(lines.next().expect("a row").starts_with("default"), "{table}");
    let described = kubectl.ok("describe sandbox one").await;
    assert!(described.contains("Operating Mode:") && described.contains("app=web"), "{described}");
    assert_eq!(kubectl.ok("get sandbox -l app=web -o name").await.trim(), "sandbox.agents.x-k8s.io/one");
    assert!(kubectl.ok("get all,cm").await.contains("settings"));
    assert!(kubectl.ok("get ns").await.contains("Active"));
    assert!(kubectl.ok("api-resources").await.contains("sandboxwarmpools"));
    kubectl.ok("get --raw /readyz").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_changes_and_deletes() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_changes_and_deletes").await else { return };
    let file = served.write("sandbox.yaml", SANDBOX).display().to_string();
    kubectl.ok(&format!("create -f {file}")).await;
    let patched = kubectl.ok(r#"patch sandbox one --type=merge -p {"spec":{"operatingMode":"Suspended"}}"#).await;
    assert_eq!(patched.trim(), "sandbox.agents.x-k8s.io/one patched");
    let operations = r#"[{"op":"replace","path":"/spec/operatingMode","value":"Running"}]"#;
    kubectl.ok(&format!("patch sandbox one --type=json -p {operations}")).await;
    assert_eq!(kubectl.ok("get sandbox one -o jsonpath={.spec.operatingMode}").await, "Running");
    kubectl.ok("label sandbox one tier=front").await;
    kubectl.ok("annotate sandbox one note=seen").await;
    let status = r#"patch sandbox one --subresource=status --type=merge -p {"status":{"nodeName":"n"}}"#;
    kubectl.ok(status).await;
    let map = served.write("map.yaml", &CONFIG_MAP.replace("settings", "numbers")).display().to_string();
    kubectl.ok(&format!("create -f {map}")).await;
    let (success, _, error) = kubectl.run(&format!("create -f {map}")).await;
    assert!(!success && error.contains("already exists"), "{error}");
    let (success, _, error) = kubectl.run("get sandbox nothing").await;
    assert!(
        !success && error.contains("Error from server (NotFound): sandboxes.agents.x-k8s.io \"nothing\" not found"),
        "{error}"
    );
    let wrong = served
        .write("wrong.yaml", &SANDBOX.replace("spec:\n  podTemplate", "spec:\n  colour: red\n  podTemplate"))
        .display()
        .to_string();
    let (success, _, error) = kubectl.run(&format!("create -f {wrong}")).await;
    assert!(!success && error.contains("unknown field \"spec.colour\""), "{error}");
    let dry = kubectl.ok("delete sandbox one --dry-run=server").await;
    assert!(dry.contains("(server dry run)"), "{dry}");
    assert!(kubectl.ok("delete sandbox one").await.contains("deleted"), "it waits until it is gone");
    assert!(kubectl.ok("delete cm --all").await.contains("\"numbers\" deleted"));
    let team = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n";
    let team = served.write("team.yaml", team).display().to_string();
    kubectl.ok(&format!("create -f {team}")).await;
    assert!(kubectl.ok("delete namespace team").await.contains("deleted"), "it waits until it is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_watches_and_waits() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_watches_and_waits").await else { return };
    let mut watching =
        kubectl.command("get sandboxes -w --no-headers").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(watching.stdout.take().expect("it is piped")).lines();
    let file = served.write("sandbox.yaml", SANDBOX).display().to_string();
    kubectl.ok(&format!("create -f {file}")).await;
    let first = lines.next_line().await.expect("it can be read").expect("it goes on");
    assert!(first.starts_with("one"), "{first}");
    let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True","reason":"DependenciesReady","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let waiting =
        kubectl.command("wait sandbox/one --for=condition=Ready --timeout=20s").stdout(Stdio::piped()).spawn();
    kubectl.ok(&format!("patch sandbox one --subresource=status --type=merge -p {ready}")).await;
    let second = lines.next_line().await.expect("it can be read").expect("it goes on");
    assert!(second.contains("True") && second.contains("DependenciesReady"), "{second}");
    let waited = waiting.expect("it runs").wait_with_output().await.expect("it ends");
    assert!(waited.status.success());
    kubectl.ok("delete sandbox one").await;
    watching.kill().await.expect("it is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_explains_and_diffs() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_explains_and_diffs").await else { return };
    let explained = kubectl.ok("explain sandbox.spec.operatingMode").await;
    assert!(explained.contains("FIELD: operatingMode"), "{explained}");
    let map = served.write("map.yaml", CONFIG_MAP).display().to_string();
    kubectl.ok(&format!("apply -f {map}")).await;
    served.write("map.yaml", &CONFIG_MAP.replace("red", "blue"));
    let (success, difference, error) = kubectl.run(&format!("diff -f {map}")).await;
    assert!(!success && difference.contains("+  colour: blue"), "{difference} {error}");
    let (success, _, error) = kubectl.run("create -f /dev/null").await;
    assert!(!success, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_sends_protobuf() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_sends_protobuf").await else { return };
    let created = [
        ("create namespace team", "namespace/team created"),
        ("create configmap x --from-literal=colour=red --from-literal=size=", "configmap/x created"),
        ("create secret generic s --from-literal=password=hush", "secret/s created"),
        ("create serviceaccount robot", "serviceaccount/robot created"),
        ("create service clusterip web --tcp=80:8080", "service/web created"),
        ("run job --image=atoll.local/host --restart=Never --env=A=b --port=80 -- true", "pod/job created"),
    ];
    for (command, expected) in created {
        assert_eq!(kubectl.ok(command).await.trim(), expected, "{command}");
    }
    assert_eq!(kubectl.ok("get cm x -o jsonpath={.data}").await, r#"{"colour":"red","size":""}"#);
    assert_eq!(kubectl.ok("get secret s -o jsonpath={.data.password}").await, "aHVzaA==");
    assert_eq!(kubectl.ok("get svc web -o jsonpath={.spec.ports[0].targetPort}").await, "8080");
    assert_eq!(kubectl.ok("get pod job -o jsonpath={.spec.containers[0].env[0].value}").await, "b");
    assert_eq!(kubectl.ok("auth can-i create pods").await.trim(), "yes");
    assert_eq!(kubectl.ok("label cm x tier=front").await.trim(), "configmap/x labeled");
    assert_eq!(kubectl.ok("annotate ns team note=seen").await.trim(), "namespace/team annotated");
    let (success, _, error) = kubectl.run("create configmap x --from-literal=a=b -v=8").await;
    assert!(error.contains("application/vnd.kubernetes.protobuf"), "what this is about: {error}");
    assert!(!success && error.contains("configmaps \"x\" already exists"), "{error}");
    assert!(kubectl.ok("delete secret s").await.contains("deleted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_asks_and_gives_rights() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_asks_and_gives_rights").await else { return };
    let cannot = |arguments: &'static str| {
        let kubectl = &kubectl;
        async move {
            let (success, out, error) = kubectl.run(arguments).await;
            assert!(!success && out.trim() == "no", "{arguments}: {out} {error}");
        }
    };
    assert_eq!(kubectl.ok("auth can-i create pods").await.trim(), "yes");
    cannot("auth can-i list pods --as jo").await;
    kubectl.ok("create role reader --verb=get,list --resource=pods").await;
    kubectl.ok("create rolebinding jo-reads --role=reader --user=jo").await;
    assert_eq!(kubectl.ok("auth can-i list pods --as jo").await.trim(), "yes");
    cannot("auth can-i delete pods --as jo").await;
    kubectl.ok("create clusterrole watcher --verb=watch --resource=nodes").await;
    kubectl.ok("create clusterrolebinding devs-watch --clusterrole=watcher --group=devs").await;
    assert_eq!(kubectl.ok("auth can-i watch nodes --as jo --as-group devs").await.trim(), "yes");
    let list = kubectl.ok("auth can-i --list --as jo").await;
    assert!(list.lines().any(|line| line.starts_with("pods ") && line.contains("[get list]")), "{list}");
    let bindings = kubectl.ok("get rolebindings -o wide").await;
    assert!(bindings.contains("Role/reader") && bindings.contains("jo"), "{bindings}");

    kubectl.ok("create serviceaccount bot").await;
    let token = kubectl.ok("create token bot --duration 20m").await;
    let config = served.write("bot", &served.with_token(token.trim()).to_string());
    let bot = Kubectl { config, cache: kubectl.cache.clone() };
    let who = bot.ok("auth whoami").await;
    assert!(who.contains("system:serviceaccount:default:bot"), "{who}");
    let (success, _, error) = bot.run("get pods").await;
    assert!(!success && error.contains("cannot list resource \"pods\""), "{error}");
    kubectl.ok("create rolebinding bot-edits --clusterrole=edit --serviceaccount=default:bot").await;
    bot.ok("get pods").await;
    let (success, _, error) = bot.run("create rolebinding up --clusterrole=admin --serviceaccount=default:bot").await;
    assert!(!success && error.contains("cannot create resource \"rolebindings\""), "{error}");
}

const CRON_TABS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: crontabs.stable.example.com
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              cronSpec: {type: string, description: When it runs.}
              replicas: {type: integer, default: 1}
    subresources:
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
";

const CRON_TAB: &str = "
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: nightly}
spec: {cronSpec: '0 3 * * *'}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_defines_kinds() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_defines_kinds").await else { return };
    let definition = served.write("definition.yaml", CRON_TABS).display().to_string();
    let applied = "customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com";
    assert_eq!(kubectl.ok(&format!("apply -f {definition}")).await.trim(), format!("{applied} created"));
    kubectl.ok("wait crd/crontabs.stable.example.com --for=condition=Established --timeout=20s").await;
    assert_eq!(kubectl.ok(&format!("apply -f {definition}")).await.trim(), format!("{applied} unchanged"));
    let file = served.write("crontab.yaml", CRON_TAB).display().to_string();
    assert_eq!(kubectl.ok(&format!("apply -f {file}")).await.trim(), "crontab.stable.example.com/nightly created");
    assert_eq!(kubectl.ok(&format!("apply -f {file}")).await.trim(), "crontab.stable.example.com/nightly unchanged");
    let table = kubectl.ok("get ct").await;
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().expect("heads").split_whitespace().collect();
    assert_eq!(heads, ["NAME", "SPEC"], "{table}");
    assert!(lines.next().expect("a row").contains("0 3 * * *"), "{table}");
    kubectl.ok("scale ct/nightly --replicas=3").await;
    assert_eq!(kubectl.ok("get ct nightly -o jsonpath={.spec.replicas}").await, "3");
    assert!(kubectl.ok("explain crontab.spec.cronSpec").await.contains("When it runs."));
    let wrong = served.write("wrong.yaml", &CRON_TAB.replace("'0 3 * * *'", "3")).display().to_string();
    let (success, _, error) = kubectl.run(&format!("apply -f {wrong}")).await;
    assert!(!success && error.contains("spec.cronSpec"), "{error}");
    assert!(kubectl.ok("get crd").await.contains("sandboxes.agents.x-k8s.io"));
    assert!(kubectl.ok(&format!("delete -f {definition}")).await.contains("deleted"), "it waits until it is gone");
    let (success, _, error) = kubectl.run("get ct").await;
    assert!(!success && error.contains("the server"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_the_published_definitions() {
    let served = Served::new().await;
    let Some(kubectl) = kubectl(&served, "kubectl_applies_the_published_definitions").await else { return };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/crds");
    let out = kubectl.ok(&format!("apply --server-side --force-conflicts -f {folder}")).await;
    assert_eq!(out.matches("serverside-applied").count(), 4, "{out}");
    let file = served.write("sandbox.yaml", SANDBOX).display().to_string();
    kubectl.ok(&format!("create -f {file}")).await;
    assert_eq!(kubectl.ok("get sandbox one -o jsonpath={.spec.operatingMode}").await, "Running");
}
