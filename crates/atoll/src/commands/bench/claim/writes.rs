//! How many writes the controllers have made, as the API server counts them.

use std::time::Duration;

use http::Request;
use kube::Client;

use crate::failure::{Exit, Failure};

/// What controllers on a cluster count themselves; reads as well.
const OWN_COUNTER: &str = "atoll_controllers_api_requests_total{";
const READS: [&str; 3] = ["verb=\"get\"", "verb=\"list\"", "verb=\"watch\""];
const METRICS_TIMEOUT: Duration = Duration::from_secs(10);
const COUNTER: &str = "atoll_apiserver_writes_total{";
const CONTROLLERS: &str = "user=\"system:atoll:controllers";
/// Counted apart: Events, and the status of pools, which is written at most once a second.
const APART: [&str; 3] = ["resource=\"events", "resource=\"sandboxwarmpools", "resource=\"leases"];

/// Writes of the controllers since the server started; nothing where the server does not count them.
pub(super) async fn of_controllers(client: &Client) -> Option<u64> {
    let request = Request::get("/metrics").body(Vec::new()).ok()?;
    let text = client.request_text(request).await.ok()?;
    text.contains(COUNTER).then(|| sum(&text))
}

/// The same by the controllers' own account, which is served at `url`.
pub(super) async fn by_themselves(url: &str) -> Result<u64, Failure> {
    let failed = |error: &reqwest::Error| Failure::because(Exit::Unreachable, format!("cannot read {url}"), error);
    let client = reqwest::Client::builder().timeout(METRICS_TIMEOUT).build().map_err(|error| failed(&error))?;
    let answer = client.get(url).send().await.map_err(|error| failed(&error))?;
    Ok(sum(&answer.text().await.map_err(|error| failed(&error))?))
}

fn sum(text: &str) -> u64 {
    let is_write = |line: &str| {
        line.starts_with(COUNTER) && line.contains(CONTROLLERS)
            || line.starts_with(OWN_COUNTER) && !READS.iter().any(|read| line.contains(read))
    };
    text.lines()
        .filter(|line| is_write(line))
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
        let own = |verb: &str, resource: &str| {
            format!("{OWN_COUNTER}controller=\"x\",verb=\"{verb}\",resource=\"{resource}\",code=\"200\"}} 3\n")
        };
        let text = [own("create", "pods"), own("watch", "pods"), own("update", "leases"), own("create", "events")];
        assert_eq!(sum(&text.concat()), 3);
    }
}
