//! Sending a scenario to a server, whichever it is.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::exchange::{Recorded, Scenario, Step};
use super::normal::Normal;

/// A real server takes a moment to serve a kind after its definition.
const LOOKS: usize = 200;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server to be asked.
pub(crate) struct Server {
    client: kube::Client,
}

/// An answer as it came.
struct Answer {
    code: u16,
    media_type: String,
    warnings: Vec<String>,
    text: String,
}

/// What earlier answers said, for the placeholders of later requests.
#[derive(Default)]
struct Known {
    values: HashMap<String, String>,
}

/// A client of the server that a kubeconfig names.
pub(crate) async fn client_from(kubeconfig: &Path) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .expect("the kubeconfig is usable");
    kube::Client::try_from(config).expect("a client can be made")
}

impl Server {
    pub(crate) fn of(client: kube::Client) -> Self {
        Self { client }
    }

    /// Sends the scenario's requests one after the other.
    pub(crate) async fn perform(&self, scenario: &Scenario) -> Vec<Recorded> {
        self.prepare(scenario).await;
        let mut known = Known::default();
        known.values.insert("ns".to_owned(), scenario.namespace.clone());
        let mut normal = Normal::default();
        let mut recorded = Vec::new();
        // Watches that follow each other change nothing: they are under way together.
        for steps in scenario.steps.chunk_by(|one, next| one.is_watch() && next.is_watch()) {
            let answers = futures::future::join_all(steps.iter().map(|step| self.send(step, &known))).await;
            for (step, answer) in steps.iter().zip(answers) {
                let documents = documents(&answer.text);
                for document in &documents {
                    known.learn(document);
                }
                let body = normal.body(&answer.text, documents, step.is_watch());
                recorded.push(Recorded::new(step, answer.code, &answer.media_type, &answer.warnings, body));
            }
        }
        recorded
    }

    /// Makes a server serve kinds that it has to be taught.
    pub(crate) async fn install(&self, definitions: &[Value]) {
        for definition in definitions {
            let name = definition["metadata"]["name"].as_str().expect("it has a name");
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
            let apply = Step::patch(format!("{path}?fieldManager=setup&force=true"), "apply", definition.clone());
            let answer = self.send(&apply, &Known::default()).await;
            assert!([200, 201].contains(&answer.code), "{}", answer.text);
            self.until_established(&path).await;
        }
    }

    /// Makes the namespace, and what the scenario wants to be there.
    async fn prepare(&self, scenario: &Scenario) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scenario.namespace}});
        let answer = self.send(&Step::post("/api/v1/namespaces", namespace), &Known::default()).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        for (path, body) in &scenario.before {
            let answer = self.send(&Step::post(path.clone(), body.clone()), &Known::default()).await;
            assert_eq!(answer.code, 201, "{}", answer.text);
        }
    }

    async fn until_established(&self, path: &str) {
        for _ in 0..LOOKS {
            let answer = self.send(&Step::get(path), &Known::default()).await;
            let definition: Value = serde_json::from_str(&answer.text).expect("it is JSON");
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True") {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{path} never was established");
    }

    async fn send(&self, step: &Step, known: &Known) -> Answer {
        let mut request = Request::builder()
            .method(step.method)
            .uri(known.fill(&step.path))
            .header("user-agent", "differ/1.0")
            .header("accept", step.accept.unwrap_or("application/json"));
        if let Some(content_type) = &step.content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Body::from(known.fill(&step.body).into_bytes())).expect("it is a request");
        let response = self.client.send(request).await.expect("the server answers");
        let header = |name: &str| {
            response
                .headers()
                .get_all(name)
                .iter()
                .map(|value| value.to_str().expect("it is text").to_owned())
                .collect()
        };
        let (warnings, types): (Vec<String>, Vec<String>) = (header("warning"), header("content-type"));
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("the body comes").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("it is text");
        Answer { code, media_type: types.join(", "), warnings, text }
    }
}

/// The JSON documents of a body: one, or one a line.
fn documents(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().map_while(Result::ok).collect()
}

impl Known {
    fn learn(&mut self, document: &Value) {
        let object = if document["type"].is_string() { &document["object"] } else { document };
        if let Some(token) = object["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            self.values.insert("continue".to_owned(), token.to_owned());
        }
        if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
            && let Some(version) = object["metadata"]["resourceVersion"].as_str()
        {
            self.values.insert("rv:list".to_owned(), version.to_owned());
        }
        let Some(name) = object["metadata"]["name"].as_str() else { return };
        for (key, field) in [("rv", "resourceVersion"), ("uid", "uid")] {
            if let Some(value) = object["metadata"][field].as_str() {
                self.values.insert(format!("{key}:{name}"), value.to_owned());
            }
        }
    }

    fn fill(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}$"), value))
    }
}
