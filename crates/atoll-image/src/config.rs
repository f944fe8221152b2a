//! Documents of the OCI image specification 1.1, and docker's of the same content: as far as a sandbox needs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an image says of the command that runs in it (`config.md` of the specification, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "none_is_default")]
    pub env: Vec<String>,
    /// The command's first words.
    #[serde(deserialize_with = "none_is_default")]
    pub entrypoint: Vec<String>,
    /// Its arguments, or the whole command where there is no entrypoint.
    #[serde(deserialize_with = "none_is_default")]
    pub cmd: Vec<String>,
    /// Where it starts; empty for `/`.
    #[serde(deserialize_with = "none_is_default")]
    pub working_dir: String,
    /// `USER`, `USER:GROUP`, each a name or a number; empty for root.
    #[serde(deserialize_with = "none_is_default")]
    pub user: String,
}

impl ImageConfig {
    /// The environment by name; what has no `=` is left out.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let pairs = self.env.iter().filter_map(|text| text.split_once('='));
        pairs.filter(|(name, _)| !name.is_empty()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// A whole configuration document.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigDocument {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) config: ImageConfig,
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    /// Digests of the layers' archives, uncompressed.
    pub(crate) diff_ids: Vec<String>,
}

/// A manifest or an index: which of the two is told by what it has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Manifest {
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// One entry of `manifest.json` in an archive of `docker save`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "none_is_default")]
    pub(crate) repo_tags: Vec<String>,
    pub(crate) layers: Vec<String>,
}

/// The machine's architecture in the specification's words (Go's).
pub(crate) fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writers in Go say `null` for what is empty.
fn none_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_nulls_is_read() {
        let text = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:1"]},
            "config":{"Env":["A=1","B=x=y","=bad","C"],"Cmd":["sh"],"Entrypoint":null,"WorkingDir":"","User":null}}"#;
        let document: ConfigDocument = serde_json::from_str(text).unwrap();
        let expected = [("A", "1"), ("B", "x=y")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(document.config.environment(), expected.into());
        assert_eq!(document.config.cmd, ["sh"]);
        assert!(document.config.entrypoint.is_empty() && document.config.user.is_empty());
        let without: ConfigDocument = serde_json::from_str(r#"{"config":null}"#).unwrap();
        assert_eq!(without.config, ImageConfig::default());
    }
}
