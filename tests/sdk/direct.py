"""Drives a running plane with the unmodified k8s-agent-sandbox SDK over its direct connection.

Makes a template and a warm pool, takes a sandbox from it, and does in it what people do: run commands, write, read,
stream and list files, ask whether they exist, and terminate it. Prints one line for each check that held, ends with 0
when all did, and with 1 and the first that did not otherwise.
"""

import argparse
import io
import sys
import time
import uuid

from k8s_agent_sandbox import SandboxClient
from k8s_agent_sandbox.exceptions import SandboxRequestError
from k8s_agent_sandbox.models import SandboxDirectConnectionConfig
from kubernetes import client, config

EXTENSIONS = ("extensions.agents.x-k8s.io", "v1beta1")
SANDBOXES = ("agents.x-k8s.io", "v1beta1")
WAIT_SECONDS = 60
IMAGE = "atoll.local/host"


class Failed(Exception):
    """A check did not hold."""


def check(what, holds, seen=None):
    if not holds:
        raise Failed(f"{what}: {seen!r}")
    print(f"ok {what}", flush=True)


def eventually(what, ask, holds):
    end = time.monotonic() + WAIT_SECONDS
    while True:
        seen = ask()
        if holds(seen):
            return seen
        if time.monotonic() > end:
            raise Failed(f"{what} did not happen: {seen!r}")
        time.sleep(0.05)


class Pool:
    """A template and a warm pool of a name of their own, gone at the end."""

    def __init__(self, objects, namespace, replicas, runtime_class=None):
        self.objects = objects
        self.runtime_class = runtime_class
        self.namespace = namespace
        self.name = f"sdk-{uuid.uuid4().hex[:8]}"
        self.replicas = replicas

    def __enter__(self):
        container = {"name": "main", "image": IMAGE}
        pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
        if self.runtime_class:
            pod["runtimeClassName"] = self.runtime_class
        template = {
            "apiVersion": "/".join(EXTENSIONS),
            "kind": "SandboxTemplate",
            "metadata": {"name": self.name},
            "spec": {"podTemplate": {"spec": pod}},
        }
        pool = {
            "apiVersion": "/".join(EXTENSIONS),
            "kind": "SandboxWarmPool",
            "metadata": {"name": self.name},
            "spec": {"replicas": self.replicas, "sandboxTemplateRef": {"name": self.name}},
        }
        create = self.objects.create_namespaced_custom_object
        create(*EXTENSIONS, self.namespace, "sandboxtemplates", template)
        create(*EXTENSIONS, self.namespace, "sandboxwarmpools", pool)
        return self

    def members(self):
        listed = self.objects.list_namespaced_custom_object(*SANDBOXES, self.namespace, "sandboxes")
        return {
            item["metadata"]["name"]: item
            for item in listed["items"]
            for owner in item["metadata"].get("ownerReferences", [])
            if owner["kind"] == "SandboxWarmPool" and owner["name"] == self.name
        }

    def wait_until_ready(self):
        get = self.objects.get_namespaced_custom_object
        eventually(
            "a full pool",
            lambda: get(*EXTENSIONS, self.namespace, "sandboxwarmpools", self.name).get("status", {}),
            lambda status: status.get("readyReplicas", 0) >= self.replicas,
        )

    def __exit__(self, *_problem):
        delete = self.objects.delete_namespaced_custom_object
        delete(*EXTENSIONS, self.namespace, "sandboxwarmpools", self.name)
        delete(*EXTENSIONS, self.namespace, "sandboxtemplates", self.name)


def run_commands(sandbox):
    result = sandbox.commands.run("echo hello")
    check("a command's output", (result.stdout, result.stderr, result.exit_code) == ("hello\n", "", 0), result)
    result = sandbox.commands.run("""python3 -c 'import sys; print("bad", file=sys.stderr); sys.exit(3)'""")
    check("a command's failure", (result.stdout, result.stderr, result.exit_code) == ("", "bad\n", 3), result)
    result = sandbox.commands.run("sh -c 'cat /proc/self/status | grep -c CapEff:.0000000000000000'")
    check("a command has no capabilities", result.stdout.strip() == "1", result)
    result = sandbox.commands.run("echo 'a b' '*' '$HOME' ';' '|'")
    check("commands are not read by a shell", result.stdout == "a b * $HOME ; |\n", result)
    result = sandbox.commands.run("no-such-program")
    check("a program that is not there", result.exit_code == 1 and "Failed to execute" in result.stderr, result)
    result = sandbox.commands.run("sleep 30", command_timeout=0.3)
    check("a command that takes too long", result.timed_out, result)


def use_files(sandbox):
    files = sandbox.files
    files.write("notes/today.txt", "first line\n")
    check("a file comes back", files.read("notes/today.txt") == b"first line\n")
    blob = bytes(range(256)) * 4096
    files.write("blob.bin", io.BytesIO(blob))
    received = io.BytesIO()
    count = files.read_to("blob.bin", received)
    check("a megabyte streams both ways", count == len(blob) and received.getvalue() == blob, count)
    names = {entry.name: entry for entry in files.list("")}
    check("files are listed", {"notes", "blob.bin"} <= names.keys(), sorted(names))
    check("a directory is one", names["notes"].type == "directory", names["notes"])
    check("a size is told", names["blob.bin"].size == len(blob), names["blob.bin"])
    check("a path that exists", files.exists("notes/today.txt") is True)
    check("a path that does not", files.exists("notes/tomorrow.txt") is False)
    odd = "odd names/ä %2F?#&.txt"
    files.write(odd, b"odd")
    check("odd names survive the way", files.read(odd) == b"odd")
    result = sandbox.commands.run("cat notes/today.txt")
    check("commands see the files", result.stdout == "first line\n", result)
    try:
        files.read("../../etc/passwd", allow_unsafe_paths=True)
    except SandboxRequestError as refused:
        check("a path that leads out is refused", refused.status_code in (403, 404), refused.status_code)
    else:
        raise Failed("a path that leads out was read")


def check_status(sandbox, namespace):
    pod = client.CoreV1Api(sandbox.k8s_helper.injected_api_client).read_namespaced_pod(sandbox.get_pod_name(), namespace)
    check("the Pod has the address that the Sandbox tells", sandbox.get_pod_ip() == pod.status.pod_ip)
    check("the SDK calls it ready", sandbox.status()[0] == "SandboxReady", sandbox.status())
    check("its name hash is told", bool(sandbox.get_sandbox_name_hash()))


def check_token(arguments, sandbox):
    stranger = SandboxDirectConnectionConfig(
        api_url=arguments.router_url, extra_headers={"Authorization": "Bearer not-a-token"}
    )
    other = SandboxClient(connection_config=stranger, api_client=sandbox.k8s_helper.injected_api_client)
    handle = other.sandbox_class(
        claim_name=sandbox.claim_name,
        sandbox_id=sandbox.sandbox_id,
        namespace=sandbox.namespace,
        connection_config=stranger,
        tracer_config=other.tracer_config,
        k8s_helper=other.k8s_helper,
    )
    try:
        handle.commands.run("true")
    except SandboxRequestError as refused:
        check("a wrong token is refused", refused.status_code == 401, refused.status_code)
    else:
        raise Failed("a wrong token was accepted")
    finally:
        handle.close_connection()


def drive(arguments):
    api = config.new_client_from_config(config_file=arguments.kubeconfig)
    objects = client.CustomObjectsApi(api)
    namespace = arguments.namespace
    connection = SandboxDirectConnectionConfig(
        api_url=arguments.router_url,
        extra_headers={"Authorization": f"Bearer {arguments.token}"},
        ca_cert=arguments.ca_cert,
    )
    sandboxes = SandboxClient(connection_config=connection, api_client=api)
    with Pool(objects, namespace, arguments.replicas, arguments.runtime_class) as pool:
        pool.wait_until_ready()
        waiting = pool.members()
        sandbox = sandboxes.create_sandbox(pool.name, namespace=namespace, sandbox_ready_timeout=WAIT_SECONDS)
        check("the sandbox comes from the pool", sandbox.sandbox_id in waiting, (sandbox.sandbox_id, sorted(waiting)))
        run_commands(sandbox)
        use_files(sandbox)
        check_status(sandbox, namespace)
        check_token(arguments, sandbox)

        again = sandboxes.get_sandbox(sandbox.claim_name, namespace=namespace)
        check("it is found again by its claim", again.files.read("notes/today.txt") == b"first line\n")
        second = sandboxes.create_sandbox(pool.name, namespace=namespace, sandbox_ready_timeout=WAIT_SECONDS)
        check("a second one is another one", second.sandbox_id != sandbox.sandbox_id)
        check("with files of its own", second.files.exists("notes/today.txt") is False)
        claims = sandboxes.list_all_sandboxes(namespace=namespace)
        check("both are listed", {sandbox.claim_name, second.claim_name} <= set(claims), claims)

        names = [sandbox.sandbox_id, second.sandbox_id]
        second.terminate()
        sandbox.terminate()
        listed = objects.list_namespaced_custom_object
        eventually(
            "the end of both",
            lambda: [item["metadata"]["name"] for item in listed(*SANDBOXES, namespace, "sandboxes")["items"]],
            lambda left: not set(names) & set(left),
        )
        check("nothing of them is left", True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True, help="kubeconfig of the plane")
    parser.add_argument("--router-url", required=True, help="address of the plane's router, http://… or https://…")
    parser.add_argument("--token", required=True, help="bearer token that the router accepts")
    parser.add_argument("--ca-cert", help="certificates to trust for an https:// router")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--replicas", type=int, default=2, help="size of the warm pool")
    parser.add_argument("--runtime-class", help="RuntimeClass of the template's Pods")
    try:
        drive(parser.parse_args())
    except Failed as failed:
        print(f"not ok {failed}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
