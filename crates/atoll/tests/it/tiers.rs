//! Tiers, as a person asks for them.

use crate::kubectl::{has_kubectl, kubectl, kubectl_with_input};
use crate::world::{World, skip_without_root};

#[test]
fn a_sandbox_in_gvisor_does_what_any_does() {
    let test = "a_sandbox_in_gvisor_does_what_any_does";
    if skip_without_root(test) {
        return;
    }
    let Some(world) = World::with_gvisor(test) else { return };
    world.up(&[]).ok();
    let run = |command: &[&str]| world.atoll(&[&["run", "--rm", "--tier", "gvisor", "--"], command].concat());
    assert_eq!(run(&["python3", "-c", "print(1)"]).ok().stdout, "1\n");
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, 7);

    world.atoll(&["sandbox", "create", "box", "--tier", "gvisor"]).ok();
    let listed = world.atoll(&["sandbox", "ls"]).ok().stdout;
    assert!(listed.contains("True") && listed.contains("gvisor"), "{listed}");
    let note = world.path().join("note");
    std::fs::write(&note, "remember").expect("it is writable");
    world.atoll(&["sandbox", "cp", &note.display().to_string(), "box:/workspace/note"]).ok();
    let exec = |command: &[&str]| world.atoll(&[&["sandbox", "exec", "box", "--"], command].concat());
    assert_eq!(exec(&["cat", "/workspace/note"]).ok().stdout, "remember");
    let back = world.path().join("back");
    world.atoll(&["sandbox", "cp", "box:/workspace/note", &back.display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(&back).expect("it was copied"), "remember");
    world.atoll(&["sandbox", "rm", "box"]).ok();
}

#[test]
fn a_pod_in_gvisor_becomes_ready_and_has_a_log() {
    let test = "a_pod_in_gvisor_becomes_ready_and_has_a_log";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let Some(world) = World::with_gvisor(test) else { return };
    world.up(&[]).ok();
    kubectl_with_input(&world, &["apply", "-f", "-"], POD).ok();
    kubectl(&world, &["wait", "--for=condition=Ready", "--timeout=60s", "pod/web"]).ok();
    assert!(kubectl(&world, &["logs", "web"]).ok().stdout.starts_with("listening\n"));
    let measured = "jsonpath={.status.conditions[?(@.type==\"atoll.local/Isolation\")].reason}";
    assert_eq!(kubectl(&world, &["get", "pod", "web", "-o", measured]).ok().stdout, "gvisor");
    assert_eq!(kubectl(&world, &["exec", "web", "--", "cat", "/data/answer", "/etc/app/name"]).ok().stdout, "42web");
}

/// A server that is asked whether it is ready, with what it needs in volumes of its own.
const POD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {name: web}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  runtimeClassName: gvisor
  terminationGracePeriodSeconds: 1
  volumes:
  - name: data
    emptyDir: {}
  - name: app
    configMap: {name: app}
  containers:
  - name: main
    image: atoll.local/host
    command: [python3, -u, -c, "import http.server as h; open('/data/answer', 'w').write('42'); print('listening'); h.HTTPServer(('0.0.0.0', 8000), h.SimpleHTTPRequestHandler).serve_forever()"]
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: app, mountPath: /etc/app}
    readinessProbe:
      httpGet: {port: 8000, path: /}
      periodSeconds: 1
"#;

#[test]
fn a_tier_that_is_not_there_is_refused_with_the_way_to_it() {
    if skip_without_root("a_tier_that_is_not_there_is_refused_with_the_way_to_it") {
        return;
    }
    let world = World::with_plane();
    if world.atoll(&["doctor", "--json"]).ok().json()["tiers"]["gvisor"] == true {
        println!("SKIPPED a_tier_that_is_not_there_is_refused_with_the_way_to_it: this machine has runsc");
        return;
    }
    let done = world.atoll(&["run", "--rm", "--tier", "gvisor", "--", "true"]);
    assert_eq!(done.code, 125, "{}", done.stderr);
    assert!(done.stderr.contains("the tier gvisor cannot be had here: runsc was not found"), "{}", done.stderr);
    assert!(done.stderr.contains("gvisor.dev") && done.stderr.contains("ATOLL_RUNSC"), "{}", done.stderr);
}
