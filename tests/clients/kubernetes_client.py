"""Uses an API server through the Python client of Kubernetes: the four kinds of change, selectors, watches, errors.

Ends with status 1 at the first surprise. The kubeconfig is the one that KUBECONFIG names.
"""

import sys
import threading

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE = "default"
GROUP, VERSION, PLURAL = "agents.x-k8s.io", "v1beta1", "sandboxes"
PATIENCE_S = 60


def config_map(name, **data):
    metadata = client.V1ObjectMeta(name=name, labels={"from": "python"})
    return client.V1ConfigMap(metadata=metadata, data=data)


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status == code, (error.status, error.body)
        return error
    raise AssertionError(f"{call.__name__} was not refused")


def objects_of_the_servers_own_kinds(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("python", colour="red"))
    assert made.metadata.uid
    refused(409, core.create_namespaced_config_map, NAMESPACE, config_map("python"))
    patched = core.patch_namespaced_config_map("python", NAMESPACE, {"data": {"size": "small"}})
    assert patched.data == {"colour": "red", "size": "small"}, patched.data
    made.data["colour"] = "blue"
    refused(409, core.replace_namespaced_config_map, "python", NAMESPACE, made)
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="from=python", limit=1)
    assert [item.metadata.name for item in listed.items] == ["python"]
    other = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    refused(409, core.delete_namespaced_config_map, "python", NAMESPACE, body=other)
    core.delete_namespaced_config_map("python", NAMESPACE)
    refused(404, core.read_namespaced_config_map, "python", NAMESPACE)


def sandbox(name):
    containers = [{"name": "main", "image": "atoll.local/host"}]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Sandbox",
        "metadata": {"name": name, "labels": {"from": "python"}},
        "spec": {"podTemplate": {"spec": {"containers": containers}}},
    }


def objects_of_defined_kinds(custom):
    place = (GROUP, VERSION, NAMESPACE, PLURAL)
    made = custom.create_namespaced_custom_object(*place, sandbox("python"))
    assert made["spec"]["operatingMode"] == "Running", made["spec"]
    mode = {"spec": {"operatingMode": "Suspended"}}
    assert custom.patch_namespaced_custom_object(*place, "python", mode)["metadata"]["generation"] == 2
    wrong = {"spec": {"operatingMode": "Asleep"}}
    error = refused(422, custom.patch_namespaced_custom_object, *place, "python", wrong)
    assert "Unsupported value" in error.body, error.body
    note = {"metadata": {"annotations": {"note": "x"}}}
    custom.patch_namespaced_custom_object(*place, "python", note)
    custom.patch_namespaced_custom_object(*place, "python", {"metadata": {"annotations": {"note": None}}})
    seen = custom.get_namespaced_custom_object(*place, "python")
    assert "note" not in seen["metadata"].get("annotations", {}), seen["metadata"]
    custom.delete_namespaced_custom_object(*place, "python")


def watches(core):
    seen = []
    ready = threading.Event()

    def follow():
        version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
        ready.set()
        events = watch.Watch().stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            resource_version=version,
            field_selector="metadata.name=watched",
            timeout_seconds=PATIENCE_S,
        )
        for event in events:
            seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    assert ready.wait(PATIENCE_S)
    core.create_namespaced_config_map(NAMESPACE, config_map("watched", a="1"))
    core.create_namespaced_config_map(NAMESPACE, config_map("unwatched", a="1"))
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "2"}})
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="from=python")
    follower.join(PATIENCE_S)
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    objects_of_the_servers_own_kinds(core)
    print("ok objects of the server's own kinds")
    objects_of_defined_kinds(client.CustomObjectsApi())
    print("ok objects of defined kinds")
    watches(core)
    print("ok watches")
    version = client.VersionApi().get_code()
    print("ok version", version.git_version)


if __name__ == "__main__":
    sys.exit(main())
