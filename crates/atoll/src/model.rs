//! Which model the plane uses: by flag, by the usual environment variables, or a written conversation.

use std::path::{Path, PathBuf};

use atoll_gateway::{Dialect, Upstream};
use atoll_stdx::Secret;

use crate::args::ModelArgs;

const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";
const OPENAI_DEFAULT_MODEL: &str = "gpt-5";
const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";
const ANTHROPIC_DEFAULT_MODEL: &str = "claude-sonnet-4-5";

/// What the environment says about models.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelEnvironment {
    pub(crate) openai_base_url: Option<String>,
    pub(crate) openai_api_key: Option<Secret<String>>,
    pub(crate) anthropic_base_url: Option<String>,
    pub(crate) anthropic_api_key: Option<Secret<String>>,
}

impl ModelEnvironment {
    pub(crate) fn read() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            openai_base_url: read("OPENAI_BASE_URL"),
            openai_api_key: read("OPENAI_API_KEY").map(Secret::new),
            anthropic_base_url: read("ANTHROPIC_BASE_URL"),
            anthropic_api_key: read("ANTHROPIC_API_KEY").map(Secret::new),
        }
    }
}

/// Where answers come from.
#[derive(Debug, Clone)]
pub(crate) enum ModelChoice {
    /// Nothing is configured.
    None,
    /// A written conversation.
    Scripted(PathBuf),
    /// Real upstreams, and the model used when a task names none.
    Upstreams { upstreams: Vec<Upstream>, default_model: String },
}

impl ModelChoice {
    /// Flags win over the environment; a script wins over both.
    pub(crate) fn resolve(args: &ModelArgs, environment: &ModelEnvironment) -> Self {
        if let Some(script) = &args.script {
            return Self::Scripted(script.clone());
        }
        let mut upstreams = Vec::new();
        if environment.anthropic_api_key.is_some() {
            upstreams.push(anthropic(environment));
        }
        if environment.openai_api_key.is_some() || environment.openai_base_url.is_some() {
            upstreams.push(openai(environment));
        }
        let Some(first) = upstreams.first() else {
            return Self::None;
        };
        let default_model = args.model.clone().unwrap_or_else(|| {
            match first.dialect {
                Dialect::Anthropic => ANTHROPIC_DEFAULT_MODEL,
                Dialect::OpenAi => OPENAI_DEFAULT_MODEL,
            }
            .to_owned()
        });
        // With one upstream every model name is its own: local servers use names of all kinds.
        if let [only] = upstreams.as_mut_slice() {
            only.models = vec!["*".to_owned()];
        }
        Self::Upstreams { upstreams, default_model }
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Scripted(path) => format!("scripted conversation {}", file_name(path)),
            Self::Upstreams { default_model, .. } => default_model.clone(),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn anthropic(environment: &ModelEnvironment) -> Upstream {
    Upstream {
        name: "anthropic".to_owned(),
        dialect: Dialect::Anthropic,
        base_url: trimmed(environment.anthropic_base_url.as_deref().unwrap_or(ANTHROPIC_BASE_URL)),
        api_key: environment.anthropic_api_key.clone(),
        models: vec!["claude*".to_owned()],
    }
}

fn openai(environment: &ModelEnvironment) -> Upstream {
    Upstream {
        name: "openai".to_owned(),
        dialect: Dialect::OpenAi,
        base_url: trimmed(environment.openai_base_url.as_deref().unwrap_or(OPENAI_BASE_URL)),
        api_key: environment.openai_api_key.clone(),
        models: vec!["*".to_owned()],
    }
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(openai: bool, anthropic: bool) -> ModelEnvironment {
        ModelEnvironment {
            openai_base_url: openai.then(|| "http://127.0.0.1:8000/v1/".to_owned()),
            anthropic_api_key: anthropic.then(|| Secret::new("key".to_owned())),
            ..ModelEnvironment::default()
        }
    }

    #[test]
    fn nothing_configured_is_no_model() {
        let choice = ModelChoice::resolve(&ModelArgs::default(), &ModelEnvironment::default());
        assert!(matches!(choice, ModelChoice::None));
    }

    #[test]
    fn one_upstream_serves_every_name() {
        let args = ModelArgs { model: Some("my-local-model".to_owned()), script: None };
        let ModelChoice::Upstreams { upstreams, default_model } =
            ModelChoice::resolve(&args, &environment(true, false))
        else {
            panic!("an upstream is configured")
        };
        assert_eq!(default_model, "my-local-model");
        assert!(upstreams[0].serves("anything"));
        assert_eq!(upstreams[0].base_url, "http://127.0.0.1:8000/v1");
    }

    #[test]
    fn two_upstreams_are_told_apart_by_the_model_s_name() {
        let ModelChoice::Upstreams { upstreams, .. } =
            ModelChoice::resolve(&ModelArgs::default(), &environment(true, true))
        else {
            panic!("upstreams are configured")
        };
        let serving = |model: &str| upstreams.iter().find(|upstream| upstream.serves(model)).map(|u| u.name.as_str());
        assert_eq!(serving("claude-x"), Some("anthropic"));
        assert_eq!(serving("gpt-5"), Some("openai"));
    }

    #[test]
    fn a_script_wins() {
        let args = ModelArgs { model: None, script: Some("talk.yaml".into()) };
        assert_eq!(ModelChoice::resolve(&args, &environment(true, true)).describe(), "scripted conversation talk.yaml");
    }
}
