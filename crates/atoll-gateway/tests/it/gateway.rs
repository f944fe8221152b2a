use std::time::Duration;

use atoll_gateway::scripted::{self, Script};
use atoll_gateway::{Dialect, Gateway, GatewayConfig, Timeouts, Upstream};
use atoll_rt::TaskGroup;
use atoll_rt::listen::serve_http;
use atoll_stdx::Secret;
use axum::Router;
use axum::http::StatusCode;
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
        timeouts: Timeouts { retry_pause: Duration::from_millis(1), ..Timeouts::default() },
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
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
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
