use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atoll_gateway::scripted::{self, Script};
use atoll_gateway::{Dialect, Gateway, GatewayConfig, Timeouts, Upstream};
use atoll_rt::TaskGroup;
use atoll_rt::listen::serve_http;
use atoll_stdx::Secret;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const SCRIPT: &str = "
agents:
- agent: writer
  turns:
  - text: Let me look around in here.
    calls: [{tool: file_read, arguments: {path: a.txt}}]
";

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// A gateway with one upstream; answers its URL.
async fn gateway(group: &TaskGroup, dialect: Dialect, base_url: String) -> String {
    let timeouts = Timeouts { retry_pause: Duration::from_millis(1), ..Timeouts::default() };
    gateway_with(group, dialect, base_url, timeouts).await
}

async fn gateway_with(group: &TaskGroup, dialect: Dialect, base_url: String, timeouts: Timeouts) -> String {
    let upstream = Upstream {
        name: "test".to_owned(),
        dialect,
        base_url,
        api_key: Some(Secret::new("upstream-key".to_owned())),
        models: vec!["*".to_owned()],
    };
    let config = GatewayConfig {
        token: Secret::new("token".to_owned()),
        upstreams: vec![upstream],
        default_model: "scripted".to_owned(),
        timeouts,
    };
    let (listener, url) = listener().await;
    serve_http(group, listener, Gateway::new(config).expect("it is well formed").service());
    url
}

async fn scripted_gateway(group: &TaskGroup) -> String {
    let (listener, url) = listener().await;
    let script = Script::parse(SCRIPT, "talk.yaml").expect("it is well formed");
    scripted::serve(group, listener, script, Secret::new("upstream-key".to_owned()));
    gateway(group, Dialect::OpenAi, format!("{url}/v1")).await
}

/// A gateway before an upstream that gives one answer to everything.
async fn gateway_before(group: &TaskGroup, status: u16, body: &'static str) -> String {
    let (listener, url) = listener().await;
    let status = StatusCode::from_u16(status).expect("it is one");
    serve_http(group, listener, Router::new().fallback(post(move || async move { (status, body) })));
    gateway(group, Dialect::OpenAi, url).await
}

fn hello(stream: bool) -> Value {
    json!({"model": "default", "stream": stream, "stream_options": {"include_usage": true}, "messages": [
        {"role": "system", "content": "You are \"writer\", an agent."}, {"role": "user", "content": "hi"},
    ]})
}

async fn ask(url: &str, token: &str, body: &Value) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let sent = client.post(format!("{url}/v1/chat/completions")).bearer_auth(token).json(body).send().await;
    let response = sent.expect("it answers");
    (response.status().as_u16(), response.text().await.expect("it is text"))
}

#[tokio::test]
async fn a_whole_answer_comes_through() {
    let group = TaskGroup::new("test");
    let url = scripted_gateway(&group).await;
    let (status, body) = ask(&url, "token", &hello(false)).await;
    let answer: Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!(status, 200, "{body}");
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], "Let me look around in here.");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "file_read");
    assert!(answer["usage"]["prompt_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn a_streamed_answer_comes_in_pieces_and_adds_up() {
    let group = TaskGroup::new("test");
    let url = scripted_gateway(&group).await;
    let (_, body) = ask(&url, "token", &hello(true)).await;
    assert!(body.trim_end().ends_with("data: [DONE]"), "{body}");
    let chunks: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Let me look around in here.");
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"path":"a.txt"}"#);
    assert!(chunks.iter().any(|chunk| chunk["usage"]["completion_tokens"].is_u64()));
}

#[tokio::test]
async fn without_the_token_nothing_is_sent_on() {
    let group = TaskGroup::new("test");
    let url = scripted_gateway(&group).await;
    for token in ["", "wrong", "token2"] {
        let (status, body) = ask(&url, token, &hello(false)).await;
        assert_eq!(status, 401, "{token}: {body}");
    }
}

#[tokio::test]
async fn upstreams_that_fail_are_named_with_a_code() {
    let group = TaskGroup::new("test");
    let closed = listener().await.1;
    for (url, status, code) in [
        (gateway(&group, Dialect::OpenAi, closed).await, 502, "upstream_unreachable"),
        (gateway_before(&group, 200, "<html>").await, 502, "upstream_invalid"),
        (gateway_before(&group, 200, "{}").await, 502, "upstream_invalid"),
        (gateway_before(&group, 401, r#"{"error":{"message":"bad key"}}"#).await, 403, "upstream_unauthorized"),
        (gateway_before(&group, 400, r#"{"error":{"message":"too long"}}"#).await, 400, "upstream_refused"),
        (gateway_before(&group, 503, "busy").await, 502, "upstream_failed"),
    ] {
        let (got, body) = ask(&url, "token", &hello(false)).await;
        let error: Value = serde_json::from_str(&body).expect("it is JSON");
        assert_eq!((got, error["error"]["code"].as_str()), (status, Some(code)), "{body}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so() {
    let group = TaskGroup::new("test");
    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"ha\"},\"finish_reason\":null}]}\n\n";
    let url = gateway_before(&group, 200, half).await;
    let (_, body) = ask(&url, "token", &hello(true)).await;
    assert!(body.contains("\"ha\"") && body.contains("upstream_invalid") && !body.contains("[DONE]"), "{body}");
}

#[tokio::test]
async fn without_an_upstream_the_answer_tells_how_to_get_one() {
    let group = TaskGroup::new("test");
    let config = GatewayConfig {
        token: Secret::new("token".to_owned()),
        upstreams: Vec::new(),
        default_model: String::new(),
        timeouts: Timeouts::default(),
    };
    let (listener, url) = listener().await;
    serve_http(&group, listener, Gateway::new(config).expect("it is well formed").service());
    let (status, body) = ask(&url, "token", &hello(false)).await;
    assert_eq!(status, 404);
    assert!(body.contains("no model is configured") && body.contains("OPENAI_BASE_URL"), "{body}");
}

/// An upstream that answers each request with the next of these, and counts the requests.
async fn upstream_of(group: &TaskGroup, answers: Vec<(u16, String)>) -> (String, Arc<AtomicUsize>) {
    let (listener, url) = listener().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let routes = Router::new().fallback(post(move |headers: HeaderMap, body: String| async move {
        let at = count.fetch_add(1, Ordering::Relaxed);
        let (status, answer) = answers[at.min(answers.len() - 1)].clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let answer = answer
            .replace("{key}", &header("x-api-key"))
            .replace("{authorization}", &header("authorization"))
            .replace("{traceparent}", &header("traceparent"))
            .replace("{length}", &body.len().to_string());
        (StatusCode::from_u16(status).expect("it is one"), answer)
    }));
    serve_http(group, listener, routes);
    (url, asked)
}

fn plain(text: &str) -> (u16, String) {
    (
        200,
        json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}).to_string(),
    )
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_does_not_is_not() {
    let group = TaskGroup::new("test");
    let busy = |status: u16| (status, "busy".to_owned());
    for (answers, status, asked) in [
        (vec![busy(503), busy(429), plain("at last")], 200, 3),
        (vec![busy(500)], 502, 4),
        (vec![busy(400)], 400, 1),
        (vec![busy(401)], 403, 1),
        (vec![(200, "<html>".to_owned())], 502, 1),
    ] {
        let (url, count) = upstream_of(&group, answers).await;
        let url = gateway(&group, Dialect::OpenAi, url).await;
        let (got, body) = ask(&url, "token", &hello(false)).await;
        assert_eq!((got, count.load(Ordering::Relaxed)), (status, asked), "{body}");
    }
}

#[tokio::test]
async fn a_stream_is_not_tried_again_once_it_has_begun() {
    let group = TaskGroup::new("test");
    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"ha\"},\"finish_reason\":null}]}\n\n".to_owned();
    let (url, count) = upstream_of(&group, vec![(200, half)]).await;
    let url = gateway(&group, Dialect::OpenAi, url).await;
    let (_, body) = ask(&url, "token", &hello(true)).await;
    assert!(body.contains("upstream_invalid"), "{body}");
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    let group = TaskGroup::new("test");
    let (listener, url) = listener().await;
    let silent = post(|| async {
        std::future::pending::<()>().await;
    });
    serve_http(&group, listener, Router::new().fallback(silent));
    let timeouts =
        Timeouts { silence: Duration::from_millis(50), retry_pause: Duration::from_millis(1), ..Timeouts::default() };
    let url = gateway_with(&group, Dialect::OpenAi, url, timeouts).await;
    let (status, body) = ask(&url, "token", &hello(false)).await;
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("upstream_unreachable"), "{body}");
}

#[tokio::test]
async fn keys_go_to_their_upstream_and_callers_see_none() {
    let group = TaskGroup::new("test");
    let (url, _) = upstream_of(&group, vec![plain("{authorization} {traceparent}")]).await;
    let url = gateway(&group, Dialect::OpenAi, url).await;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let request = client.post(format!("{url}/v1/chat/completions")).bearer_auth("token").json(&hello(false));
    let response =
        request.header("traceparent", "00-ab-cd-01").header("x-request-id", "mine").send().await.expect("it answers");
    assert_eq!(response.headers()["x-request-id"], "mine");
    let body = response.text().await.expect("it is text");
    assert!(body.contains("Bearer upstream-key 00-ab-cd-01"), "{body}");
    let unnamed = client.get(format!("{url}/healthz")).send().await.expect("it answers");
    assert_eq!(unnamed.headers()["x-request-id"].len(), 26);
}

#[tokio::test]
async fn messages_of_anthropic_come_back_as_chat_completions() {
    let group = TaskGroup::new("test");
    let whole = json!({"id": "m", "model": "claude-x", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "{key}"}], "usage": {"input_tokens": 3, "output_tokens": 4}});
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ];
    let stream: String = events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"])).collect();
    let (url, _) = upstream_of(&group, vec![(200, whole.to_string()), (200, stream)]).await;
    let url = gateway(&group, Dialect::Anthropic, url).await;
    let (status, body) = ask(&url, "token", &hello(false)).await;
    let answer: Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("upstream-key")));
    assert_eq!(answer["usage"]["total_tokens"], 7);
    let (_, body) = ask(&url, "token", &hello(true)).await;
    assert!(
        body.contains("hello") && body.contains("\"total_tokens\":7") && body.trim_end().ends_with("[DONE]"),
        "{body}"
    );
}

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused_in_json() {
    let group = TaskGroup::new("test");
    let url = scripted_gateway(&group).await;
    let mut large = hello(false);
    large["messages"][1]["content"] = json!("x".repeat(11 * 1024 * 1024));
    let mut searching = hello(false);
    searching["tools"] = json!([{"type": "web_search"}]);
    for (body, status, code) in [(large, 413, "too_large"), (searching, 400, "server_side_tool_refused")] {
        let (got, body) = ask(&url, "token", &body).await;
        let error: Value = serde_json::from_str(&body).expect("it is JSON");
        assert_eq!((got, error["error"]["code"].as_str()), (status, Some(code)), "{body}");
    }
}

/// Runs itself again on a machine that has no CA certificate.
#[test]
fn without_ca_certificates_plain_upstreams_still_work() {
    const ALONE: &str = "ATOLL_TEST_WITHOUT_ROOTS";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            atoll_rt::tls::install_crypto_provider();
            assert!(reqwest::Client::builder().build().is_err(), "there are certificates after all");
            let group = TaskGroup::new("test");
            let (url, _) = upstream_of(&group, vec![plain("hi")]).await;
            let url = gateway(&group, Dialect::OpenAi, url).await;
            assert_eq!(ask(&url, "token", &hello(false)).await.0, 200);
        });
        return;
    }
    let again = std::process::Command::new(std::env::current_exe().expect("it has a path"))
        .args(["--exact", "gateway::without_ca_certificates_plain_upstreams_still_work", "--nocapture"])
        .env(ALONE, "1")
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .expect("it starts");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}
