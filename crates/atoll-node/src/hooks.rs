//! Lifecycle hooks of a container: what is done right after its start and before its stop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::environment::Unprepared;
use crate::probe;
use crate::runtime::{CheckOutcome, GuestEndpoint, PodRuntime, Question};

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Something in the sandbox is asked.
    Ask(Question),
    /// Time passes.
    Sleep(Duration),
}

/// What is done right after the container's start.
pub(crate) fn post_start(container: &Container) -> Result<Option<Hook>, Unprepared> {
    let handler = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    handler.map(|handler| hook(container, handler, "postStart")).transpose()
}

/// What is done before the container is told to stop.
pub(crate) fn pre_stop(container: &Container) -> Result<Option<Hook>, Unprepared> {
    let handler = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    handler.map(|handler| hook(container, handler, "preStop")).transpose()
}

fn hook(container: &Container, handler: &LifecycleHandler, name: &str) -> Result<Hook, Unprepared> {
    if let Some(sleep) = &handler.sleep {
        return Ok(Hook::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))));
    }
    let question = match (&handler.exec, &handler.http_get) {
        (Some(exec), _) => Question::Exec { argv: exec.command.clone().unwrap_or_default() },
        (None, Some(http)) => probe::http_question(container, http)?,
        (None, None) => return Err(Unprepared::Refused(format!("the {name} hook does nothing that is known"))),
    };
    Ok(Hook::Ask(question))
}

impl Hook {
    /// Does it, for at most `limit`.
    ///
    /// # Errors
    /// Why it did not succeed.
    pub(crate) async fn run(
        &self,
        runtime: &dyn PodRuntime,
        guest: &GuestEndpoint,
        limit: Duration,
    ) -> Result<(), String> {
        match self {
            Self::Sleep(pause) if *pause > limit => {
                tokio::time::sleep(limit).await;
                Err("it takes longer than the Pod's grace".to_owned())
            }
            Self::Sleep(pause) => {
                tokio::time::sleep(*pause).await;
                Ok(())
            }
            Self::Ask(question) => match runtime.check(guest, question, limit).await {
                CheckOutcome::Passed => Ok(()),
                CheckOutcome::Failed(why) => Err(why),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(lifecycle: Value) -> Container {
        let container = json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}], "lifecycle": lifecycle});
        serde_json::from_value(container).expect("a container")
    }

    #[test]
    fn hooks_are_read() {
        let both = container(json!({
            "postStart": {"exec": {"command": ["touch", "x"]}},
            "preStop": {"httpGet": {"port": "web", "path": "/stop"}},
        }));
        let argv = ["touch", "x"].map(str::to_owned).to_vec();
        assert_eq!(post_start(&both), Ok(Some(Hook::Ask(Question::Exec { argv }))));
        let question = Question::Http { port: 80, path: "/stop".to_owned(), headers: vec![] };
        assert_eq!(pre_stop(&both), Ok(Some(Hook::Ask(question))));
        let sleep = container(json!({"preStop": {"sleep": {"seconds": 3}}}));
        assert_eq!(pre_stop(&sleep), Ok(Some(Hook::Sleep(Duration::from_secs(3)))));
        assert_eq!(post_start(&sleep), Ok(None));
        let nothing = container(json!({"preStop": {}}));
        assert!(matches!(pre_stop(&nothing), Err(Unprepared::Refused(why)) if why.contains("preStop")));
    }
}
