//! Commands that change what runs, or is published, elsewhere.

use super::{Found, begins_with, operands};
use crate::action::Effect;
use crate::shell::{Command, Word};

/// A program that deploys by some of its subcommands.
struct Deployer {
    programs: &'static [&'static str],
    /// Options before the subcommand that take the next word as their value.
    value_options: &'static [&'static str],
    /// Subcommands that deploy, words separated by blanks.
    subcommands: &'static [&'static str],
    /// Options that make it a rehearsal.
    rehearsals: &'static [&'static str],
}

const KUBECTL_OPTIONS: [&str; 16] = [
    "-n",
    "--namespace",
    "--context",
    "--kubeconfig",
    "-s",
    "--server",
    "--user",
    "--cluster",
    "--token",
    "--as",
    "--as-group",
    "--certificate-authority",
    "--client-certificate",
    "--client-key",
    "--request-timeout",
    "-v",
];

const DEPLOYERS: [Deployer; 28] = [
    Deployer {
        programs: &["kubectl", "oc", "k", "k3s", "microk8s", "minikube"],
        value_options: &KUBECTL_OPTIONS,
        subcommands: &[
            "apply",
            "create",
            "delete",
            "replace",
            "patch",
            "set",
            "scale",
            "autoscale",
            "edit",
            "run",
            "expose",
            "annotate",
            "label",
            "drain",
            "cordon",
            "uncordon",
            "taint",
            "exec",
            "cp",
            "debug",
            "rollout restart",
            "rollout undo",
            "rollout pause",
            "rollout resume",
            "certificate approve",
            "auth reconcile",
            "new-app",
            "kubectl",
        ],
        rehearsals: &["--dry-run", "--dry-run=client", "--dry-run=server"],
    },
    Deployer {
        programs: &["helm"],
        value_options: &[
            "-n",
            "--namespace",
            "--kube-context",
            "--kubeconfig",
            "--registry-config",
            "--repository-config",
        ],
        subcommands: &["install", "upgrade", "uninstall", "delete", "del", "un", "rollback", "push"],
        rehearsals: &["--dry-run", "--dry-run=client", "--dry-run=server"],
    },
    Deployer {
        programs: &["helmfile"],
        value_options: &["-e", "-f", "-l"],
        subcommands: &["apply", "sync", "destroy", "delete"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["terraform", "tofu", "terragrunt"],
        value_options: &["-chdir"],
        subcommands: &[
            "apply",
            "destroy",
            "import",
            "taint",
            "untaint",
            "force-unlock",
            "state rm",
            "state mv",
            "state push",
            "run-all apply",
            "run-all destroy",
            "workspace delete",
            "apply-all",
            "destroy-all",
        ],
        rehearsals: &[],
    },
    Deployer {
        programs: &["pulumi"],
        value_options: &["-C", "--cwd", "-s", "--stack"],
        subcommands: &["up", "update", "destroy", "refresh", "import", "cancel", "stack rm"],
        rehearsals: &["--preview-only"],
    },
    Deployer {
        programs: &["cdk", "cdktf"],
        value_options: &["-a", "--app", "--profile"],
        subcommands: &["deploy", "destroy", "import", "bootstrap"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["serverless", "sls"],
        value_options: &["--stage", "-s"],
        subcommands: &["deploy", "remove", "rollback"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["sam", "copilot", "amplify", "eb"],
        value_options: &[],
        subcommands: &["deploy", "delete", "sync", "push", "publish", "svc deploy", "terminate"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["fly", "flyctl"],
        value_options: &["-a", "--app"],
        subcommands: &[
            "deploy",
            "launch",
            "scale",
            "secrets set",
            "secrets unset",
            "apps destroy",
            "destroy",
            "machine run",
            "machine update",
        ],
        rehearsals: &[],
    },
    Deployer {
        programs: &["netlify", "ntl", "wrangler", "firebase", "surge", "railway", "render", "dokku", "kamal"],
        value_options: &[],
        subcommands: &["deploy", "publish", "up", "pages deploy", "pages publish", "rollback", "setup", "redeploy"],
        rehearsals: &["--dry-run"],
    },
    Deployer {
        programs: &["heroku"],
        value_options: &["-a", "--app"],
        subcommands: &[
            "container:release",
            "container:push",
            "releases:rollback",
            "config:set",
            "config:unset",
            "ps:scale",
            "ps:restart",
            "run",
            "pipelines:promote",
            "apps:destroy",
        ],
        rehearsals: &[],
    },
    Deployer {
        programs: &["gcloud"],
        value_options: &["--project", "--account", "--region"],
        subcommands: &[
            "app deploy",
            "run deploy",
            "functions deploy",
            "builds submit",
            "deploy",
            "run services",
            "container clusters",
            "compute instances",
        ],
        rehearsals: &[],
    },
    Deployer {
        programs: &["docker", "podman", "nerdctl", "buildah", "img"],
        value_options: &["-H", "--host", "-c", "--context", "--config", "-l", "--log-level"],
        subcommands: &[
            "push",
            "image push",
            "manifest push",
            "stack deploy",
            "stack rm",
            "service create",
            "service update",
            "service rm",
            "compose push",
        ],
        rehearsals: &[],
    },
    Deployer {
        programs: &["skopeo", "crane", "oras", "regctl"],
        value_options: &[],
        subcommands: &["copy", "sync", "delete", "push", "append", "image copy", "tag"],
        rehearsals: &["--dry-run"],
    },
    Deployer {
        programs: &["ko"],
        value_options: &[],
        subcommands: &["apply", "create", "delete", "publish", "build", "run", "resolve"],
        rehearsals: &["--push=false"],
    },
    Deployer {
        programs: &["argocd"],
        value_options: &["--server"],
        subcommands: &["app sync", "app create", "app set", "app delete", "app rollback", "app patch", "appset create"],
        rehearsals: &["--dry-run"],
    },
    Deployer {
        programs: &["flux"],
        value_options: &["-n", "--namespace", "--context"],
        subcommands: &[
            "reconcile",
            "create",
            "delete",
            "bootstrap",
            "suspend",
            "resume",
            "push",
            "uninstall",
            "install",
        ],
        rehearsals: &["--export", "--dry-run"],
    },
    Deployer {
        programs: &["skaffold", "tilt", "garden", "okteto"],
        value_options: &["-p", "--profile"],
        subcommands: &["run", "deploy", "dev", "apply", "delete", "up", "down"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["nomad"],
        value_options: &["-address", "-namespace"],
        subcommands: &["job run", "job stop", "run", "stop", "job revert", "job scale"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["consul"],
        value_options: &[],
        subcommands: &["kv put", "kv delete", "kv import", "config write", "config delete"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["vault"],
        value_options: &[],
        subcommands: &["write", "delete", "kv put", "kv delete", "policy write"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["npm", "pnpm", "yarn", "bun"],
        value_options: &["--prefix", "-C", "--dir"],
        subcommands: &["publish", "unpublish", "deprecate", "dist-tag add", "npm publish"],
        rehearsals: &["--dry-run"],
    },
    Deployer {
        programs: &["cargo"],
        value_options: &["--color", "--config", "-Z"],
        subcommands: &["publish", "yank", "owner"],
        rehearsals: &["--dry-run", "-n"],
    },
    Deployer {
        programs: &["twine", "flit", "hatch", "poetry", "uv", "pdm", "gem", "maturin"],
        value_options: &[],
        subcommands: &["upload", "publish", "push", "yank"],
        rehearsals: &["--dry-run"],
    },
    Deployer {
        programs: &["dotnet", "nuget"],
        value_options: &[],
        subcommands: &["nuget push", "push", "nuget delete"],
        rehearsals: &[],
    },
    Deployer {
        programs: &["gh"],
        value_options: &["-R", "--repo"],
        subcommands: &[
            "release create",
            "release upload",
            "release edit",
            "release delete",
            "workflow run",
            "secret set",
            "variable set",
            "run rerun",
        ],
        rehearsals: &[],
    },
    Deployer {
        programs: &["ansible", "ansible-pull"],
        value_options: &[],
        subcommands: &[""],
        rehearsals: &["--check", "-C", "--version", "--list-hosts"],
    },
    Deployer {
        programs: &["ansible-playbook"],
        value_options: &[],
        subcommands: &[""],
        rehearsals: &["--check", "-C", "--syntax-check", "--list-tasks", "--list-hosts", "--version"],
    },
];

/// Programs that run named tasks; the name says what they do.
const TASK_RUNNERS: [&str; 20] = [
    "make", "gmake", "just", "task", "rake", "invoke", "inv", "nox", "tox", "mage", "gradle", "gradlew", "mvn", "mvnw",
    "ant", "npm", "pnpm", "yarn", "bun", "cap",
];

/// Words in such a name.
const TASK_WORDS: [&str; 5] = ["deploy", "release", "publish", "rollout", "production"];

pub(super) fn effect(program: &str, command: &Command) -> Option<Found> {
    let arguments = command.arguments();
    let by_subcommand = DEPLOYERS.iter().filter(|deployer| deployer.programs.contains(&program));
    by_subcommand
        .filter_map(|deployer| deployer.effect(arguments))
        .next()
        .or_else(|| task_effect(program, arguments))
        .or_else(|| cloud_effect(program, arguments))
        .or_else(|| other_effect(program, arguments))
}

impl Deployer {
    fn effect(&self, arguments: &[Word]) -> Option<Found> {
        let rehearsed = arguments.iter().filter_map(Word::text).any(|text| self.rehearsals.contains(&text));
        if rehearsed || asks_for_help(arguments) {
            return None;
        }
        let operands = operands(arguments, self.value_options);
        let mut possible = false;
        for subcommand in self.subcommands {
            let path: Vec<&str> = subcommand.split_whitespace().collect();
            match begins_with(&operands, &path) {
                Some(true) => return Some(Found::certain(Effect::DeployToProduction)),
                Some(false) => {}
                None => possible = true,
            }
        }
        possible.then(|| Found::possible(Effect::DeployToProduction))
    }
}

fn asks_for_help(arguments: &[Word]) -> bool {
    arguments.iter().any(|word| matches!(word.text(), Some("--help" | "-h" | "help")))
}

fn task_effect(program: &str, arguments: &[Word]) -> Option<Found> {
    if !TASK_RUNNERS.contains(&program) {
        return None;
    }
    let mut found = None;
    for word in operands(arguments, &["-C", "-f", "--file", "--prefix", "--directory"]) {
        match word.text() {
            Some(text)
                if !text.contains('=') && TASK_WORDS.iter().any(|part| text.to_ascii_lowercase().contains(part)) =>
            {
                return Some(Found::certain(Effect::DeployToProduction));
            }
            Some(_) => {}
            None => found = Some(Found::possible(Effect::DeployToProduction)),
        }
    }
    found
}

/// Command lines of clouds: a service, then an operation whose first word tells.
fn cloud_effect(program: &str, arguments: &[Word]) -> Option<Found> {
    let writes: &[&str] = match program {
        "aws" => &[
            "create",
            "update",
            "delete",
            "put",
            "run",
            "start",
            "stop",
            "terminate",
            "deploy",
            "sync",
            "cp",
            "mv",
            "rm",
            "rb",
            "mb",
            "publish",
            "register",
            "deregister",
            "invoke",
            "modify",
            "attach",
            "detach",
            "set",
            "reboot",
            "restore",
            "execute",
            "send",
            "tag",
            "untag",
            "associate",
            "disassociate",
            "import",
            "promote",
            "package",
        ],
        "az" | "gcloud" | "doctl" | "ibmcloud" | "oci" | "hcloud" | "linode-cli" | "scw" | "openstack" => &[
            "create", "update", "delete", "deploy", "up", "start", "stop", "restart", "set", "add", "remove", "scale",
            "submit", "import", "apply", "run", "resize", "reboot", "migrate",
        ],
        "gsutil" => &["cp", "mv", "rm", "rsync", "mb", "rb", "acl", "iam"],
        _ => return None,
    };
    if asks_for_help(arguments) {
        return None;
    }
    let operands = operands(
        arguments,
        &["--profile", "--region", "--output", "-o", "--query", "--endpoint-url", "--project", "--subscription"],
    );
    let first_word = |text: &str| text.split('-').next().unwrap_or(text).to_owned();
    let is_write = |word: &&Word| word.text().is_some_and(|text| writes.contains(&first_word(text).as_str()));
    if operands.iter().take(5).any(is_write) {
        return Some(Found::certain(Effect::DeployToProduction));
    }
    operands.iter().take(2).any(|word| word.text().is_none()).then(|| Found::possible(Effect::DeployToProduction))
}

fn other_effect(program: &str, arguments: &[Word]) -> Option<Found> {
    let operands = operands(arguments, &["-t", "--token", "--scope", "-S"]);
    let first = operands.first().copied().and_then(Word::text);
    let deploys = match program {
        "vercel" | "vc" | "now" => {
            !asks_for_help(arguments)
                && !arguments.iter().any(|word| word.text() == Some("--version"))
                && !matches!(
                    first,
                    Some("ls" | "list" | "logs" | "inspect" | "dev" | "build" | "whoami" | "login" | "env" | "pull")
                )
        }
        "docker" | "podman" => arguments.iter().any(|word| word.text() == Some("--push")),
        "kustomize" | "kubectl-apply" => false,
        "kubeadm" | "kops" | "eksctl" => {
            matches!(first, Some("init" | "join" | "reset" | "upgrade" | "create" | "delete" | "update" | "apply"))
        }
        "deploy" | "deploy.sh" | "release.sh" | "publish.sh" => true,
        _ => false,
    };
    deploys.then(|| Found::certain(Effect::DeployToProduction))
}
