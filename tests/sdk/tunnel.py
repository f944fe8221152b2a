"""Drives a running plane with the unmodified k8s-agent-sandbox SDK as it is when nobody configures it: it finds the
plane by KUBECONFIG and reaches the router through `kubectl port-forward`, without a token of its own.

Prints one line for each check that held, ends with 0 when all did, and with 1 and the first that did not otherwise.
"""

import sys

from direct import WAIT_SECONDS, Failed, Pool, check, run_commands, use_files
from k8s_agent_sandbox import SandboxClient
from kubernetes import client, config

NAMESPACE = "default"


def drive():
    config.load_kube_config()
    with Pool(client.CustomObjectsApi(), NAMESPACE, 1) as pool:
        pool.wait_until_ready()
        sandboxes = SandboxClient()
        sandbox = sandboxes.create_sandbox(pool.name, namespace=NAMESPACE, sandbox_ready_timeout=WAIT_SECONDS)
        run_commands(sandbox)
        use_files(sandbox)
        sandbox.terminate()
        check("nothing of it is left", sandbox.claim_name not in sandboxes.list_all_sandboxes(namespace=NAMESPACE))


def main():
    try:
        drive()
    except Failed as failed:
        print(f"not ok {failed}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
