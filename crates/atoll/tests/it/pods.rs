//! Pods as Kubernetes means them, in real sandboxes.

use crate::kubectl::{has_kubectl, kubectl, kubectl_with_input};
use crate::world::{World, eventually, skip_without_root};

const FURNISHED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, size: large}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: furnished, labels: {tier: test}}
spec:
  terminationGracePeriodSeconds: 5
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: data}}
  - name: all
    projected:
      sources:
      - configMap: {name: settings, items: [{key: colour, path: config/colour}]}
      - secret: {name: keys}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  containers:
  - name: main
    image: atoll.local/host
    command: [sh, -c, "trap 'echo stopped >> /data/log; exit 0' TERM; while :; do sleep 0.05; done"]
    resources: {limits: {memory: 64Mi, cpu: 1500m}}
    env:
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /part, subPath: deep/part}
    - {name: all, mountPath: /all}
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo started > /data/log"]}}
      preStop: {exec: {command: [sh, -c, "echo stopping >> /data/log"]}}
---
apiVersion: v1
kind: Pod
metadata: {name: heir}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers:
  - name: main
    image: atoll.local/host
    volumeMounts: [{name: data, mountPath: /data, readOnly: true}]
"#;

#[test]
fn volumes_variables_and_hooks_are_as_asked_for() {
    let test = "volumes_variables_and_hooks_are_as_asked_for";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = World::with_plane();
    kubectl_with_input(&world, &["apply", "-f", "-"], FURNISHED).ok();
    kubectl(&world, &["wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"]).ok();
    let sh = |pod: &str, script: &str| kubectl(&world, &["exec", pod, "--", "sh", "-c", script]);
    let told = |pod: &str, script: &str| sh(pod, script).ok().stdout;
    assert_eq!(told("furnished", "echo $MEMORY"), "64\n");
    assert_eq!(told("furnished", "cat /all/config/colour /all/token /all/labels"), "reds3crettier=\"test\"");
    assert_eq!(told("furnished", "ls /all"), "config\nlabels\ntoken\n");
    assert_ne!(sh("furnished", "echo x > /all/token").code, 0, "projected files are read-only");
    assert_eq!(told("furnished", "echo here > /part/file; cat /data/deep/part/file; id -u"), "here\n1000\n");
    assert_eq!(told("furnished", "cat /data/log"), "started\n");
    assert_ne!(sh("heir", "echo x > /data/x").code, 0, "the mount is read-only");

    kubectl(&world, &["delete", "pod", "furnished", "--timeout=60s"]).ok();
    assert_eq!(told("heir", "cat /data/log"), "started\nstopping\nstopped\n");
}

#[test]
fn a_hook_that_fails_keeps_its_container_from_running() {
    let test = "a_hook_that_fails_keeps_its_container_from_running";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = World::with_plane();
    let manifest = r#"
apiVersion: v1
kind: Pod
metadata: {name: unlucky}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: atoll.local/host
    lifecycle: {postStart: {exec: {command: ["false"]}}}
"#;
    kubectl_with_input(&world, &["apply", "-f", "-"], manifest).ok();
    let waiting = |field: &str| {
        let path = format!("-o=jsonpath={{.status.containerStatuses[0].state.waiting.{field}}}");
        kubectl(&world, &["get", "pod", "unlucky", &path]).ok().stdout
    };
    eventually("the hook has failed", || waiting("reason") == "PostStartHookError");
    assert!(waiting("message").contains("the postStart hook failed"), "{}", waiting("message"));
}

#[test]
fn init_containers_prepare_what_the_container_finds() {
    let test = "init_containers_prepare_what_the_container_finds";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = World::with_plane();
    let manifest = r#"
apiVersion: v1
kind: Pod
metadata: {name: prepared}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - name: fetch
    image: atoll.local/host
    command: [sh, -c, "echo fetched; echo 1 > /shared/steps"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: build
    image: atoll.local/host
    command: [sh, -c, "cat /shared/steps; echo 2 >> /shared/steps; exec sleep $(LONG)"]
    env: [{name: LONG, value: "0.1"}]
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: atoll.local/host
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
"#;
    kubectl_with_input(&world, &["apply", "-f", "-"], manifest).ok();
    kubectl(&world, &["wait", "pod/prepared", "--for=condition=Ready", "--timeout=60s"]).ok();
    assert_eq!(kubectl(&world, &["exec", "prepared", "--", "cat", "/shared/steps"]).ok().stdout, "1\n2\n");
    assert_eq!(kubectl(&world, &["logs", "prepared", "-c", "fetch"]).ok().stdout, "fetched\n");
    assert_eq!(kubectl(&world, &["logs", "prepared", "-c", "build"]).ok().stdout, "1\n");
    let listed = world.atoll(&["sandbox", "ls"]).ok().stdout;
    assert!(!listed.contains("-init-"), "nothing of them is left: {listed}");
}
