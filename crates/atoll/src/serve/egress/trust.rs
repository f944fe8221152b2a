//! The proxy's certificate in sandboxes whose requests are seen within TLS.

use std::collections::BTreeMap;

use async_trait::async_trait;
use atoll_egress::EgressController;
use atoll_node::Furnish;
use atoll_sandbox::spec::FileBytes;
use atoll_sandbox::{Mount, MountKind, SandboxSpec};

const DIRECTORY: &str = "/etc/atoll-egress";
const AUTHORITY_FILE: &str = "ca.crt";
const BUNDLE_FILE: &str = "bundle.crt";
const MODE: u32 = 0o644;
/// Where machines keep the certificates that they trust.
const MACHINE_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Variables by which programs find a bundle, and those that name an addition to one.
const BUNDLE_VARIABLES: [&str; 4] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"];
const ADDITION_VARIABLES: [&str; 1] = ["NODE_EXTRA_CA_CERTS"];

/// Adds the certificate where rules need it.
pub(super) struct Trust {
    controller: EgressController,
    files: BTreeMap<String, FileBytes>,
}

impl Trust {
    pub(super) fn new(controller: EgressController, authority_pem: &str) -> Self {
        let machine = MACHINE_BUNDLES.into_iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        let bundle = [machine.as_slice(), b"\n", authority_pem.as_bytes()].concat();
        let files = [
            (AUTHORITY_FILE.to_owned(), FileBytes(authority_pem.as_bytes().to_vec())),
            (BUNDLE_FILE.to_owned(), FileBytes(bundle)),
        ];
        Self { controller, files: files.into() }
    }
}

#[async_trait]
impl Furnish for Trust {
    async fn furnish(&self, mut spec: SandboxSpec) -> SandboxSpec {
        if !self.controller.needs_trust(&spec.id).await {
            return spec;
        }
        let kind = MountKind::Files { files: self.files.clone(), mode: MODE };
        spec.mounts.push(Mount { target: DIRECTORY.to_owned(), kind, read_only: true });
        let environments = [Some(&mut spec.env), spec.workload.as_mut().map(|workload| &mut workload.env)];
        for environment in environments.into_iter().flatten() {
            for (names, file) in [(BUNDLE_VARIABLES.as_slice(), BUNDLE_FILE), (&ADDITION_VARIABLES, AUTHORITY_FILE)] {
                for name in names {
                    // Whoever chose another one meant it.
                    environment.entry((*name).to_owned()).or_insert_with(|| format!("{DIRECTORY}/{file}"));
                }
            }
        }
        spec
    }
}
