//! How many writes the controllers have made, as the API server counts them.

use http::Request;
use kube::Client;

const COUNTER: &str = "atoll_apiserver_writes_total{";
const CONTROLLERS: &str = "user=\"system:atoll:controllers";
/// Counted apart: Events, and the status of pools, which is written at most once a second.
const APART: [&str; 2] = ["resource=\"events", "resource=\"sandboxwarmpools"];

/// Writes of the controllers since the server started; nothing where the server does not count them.
pub(super) async fn of_controllers(client: &Client) -> Option<u64> {
    let request = Request::get("/metrics").body(Vec::new()).ok()?;
    let text = client.request_text(request).await.ok()?;
    text.contains(COUNTER).then(|| sum(&text))
}

fn sum(text: &str) -> u64 {
    text.lines()
        .filter(|line| line.starts_with(COUNTER) && line.contains(CONTROLLERS))
        .filter(|line| !APART.iter().any(|apart| line.contains(apart)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_controllers_writes_count() {
        let line = |user: &str, resource: &str, count: u64| {
            format!("{COUNTER}user=\"{user}\",verb=\"patch\",resource=\"{resource}\"}} {count}\n")
        };
        let text = [
            line("system:atoll:controllers", "sandboxes.agents.x-k8s.io", 3),
            line("system:atoll:controllers", "sandboxclaims.extensions.agents.x-k8s.io/status", 4),
            line("system:atoll:controllers", "events.events.k8s.io", 100),
            line("system:atoll:controllers", "sandboxwarmpools.extensions.agents.x-k8s.io/status", 100),
            line("system:atoll:scheduler", "pods/binding", 100),
        ];
        assert_eq!(sum(&text.concat()), 7);
    }
}
