//! Logs, commands, attached containers and forwarded ports, through the clients that people have.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kubectl::{has_kubectl, kubectl, kubectl_command, kubectl_with_input};
use crate::world::{World, skip_without_root};

/// Says three lines, fails once, and then goes on saying one each time a file appears.
const TALKER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: memory, emptyDir: {}}]
  containers:
  - name: main
    image: atoll.local/host
    volumeMounts: [{name: memory, mountPath: /memory}]
    command: [sh, -c]
    args:
    - |
      if [ ! -e /memory/ran ]; then echo first life; touch /memory/ran; exit 3; fi
      echo one; sleep 0.1; echo two >&2; sleep 0.1; printf 'th'; echo ree
      while sleep 0.05; do
        if [ -e /tmp/say ]; then cat /tmp/say; rm /tmp/say; fi
        if [ -e /tmp/end ]; then exit 0; fi
      done
  restartPolicy: OnFailure
"#;

const SERVER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: atoll.local/host
    command: [python3, -m, http.server, --bind, 127.0.0.1, "8000"]
    workingDir: /usr/share
    ports: [{name: web, containerPort: 8000}]
    readinessProbe: {exec: {command: [python3, -c, "import socket; socket.create_connection(('127.0.0.1', 8000))"]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{port: 80, targetPort: web}]
"#;

fn world(manifest: &str, pod: &str) -> World {
    let world = World::with_plane();
    kubectl_with_input(&world, &["apply", "-f", "-"], manifest).ok();
    kubectl(&world, &["wait", &format!("pod/{pod}"), "--for=condition=Ready", "--timeout=60s"]).ok();
    world
}

#[test]
fn kubectl_reads_logs() {
    let test = "kubectl_reads_logs";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = world(TALKER, "talker");
    let logs = |more: &[&str]| kubectl(&world, &[&["logs", "talker"], more].concat());
    crate::world::eventually("the second life has spoken", || logs(&[]).ok().stdout.contains("three"));
    assert_eq!(logs(&[]).ok().stdout, "one\ntwo\nthree\n");
    assert_eq!(logs(&["--tail=1"]).ok().stdout, "three\n");
    assert_eq!(logs(&["--limit-bytes=5"]).ok().stdout, "one\nt");
    assert_eq!(logs(&["--since=1h", "-c", "main"]).ok().stdout, "one\ntwo\nthree\n");
    assert_eq!(logs(&["--since-time=2090-01-01T00:00:00Z"]).ok().stdout, "");
    assert_eq!(logs(&["--previous"]).ok().stdout, "first life\n");
    let stamped = logs(&["--timestamps", "--tail=1"]).ok().stdout;
    assert!(stamped.starts_with("20") && stamped.ends_with("Z three\n"), "{stamped}");
    let refused = logs(&["-c", "other"]);
    assert!(refused.stderr.contains("container other is not valid for pod talker"), "{}", refused.stderr);
    let refused = kubectl(&world, &["logs", "nobody"]);
    assert!(refused.stderr.contains("pods \"nobody\" not found"), "{}", refused.stderr);

    let mut following = piped(&world, &["logs", "-f", "--tail=1", "talker"]);
    let mut lines = BufReader::new(following.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("three"));
    kubectl(&world, &["exec", "talker", "--", "sh", "-c", "echo four > /tmp/say; sleep 0.2; touch /tmp/end"]).ok();
    assert_eq!(lines.collect::<Vec<_>>(), ["four"], "and it ends with the container");
    assert!(following.wait().expect("it ends").success());
}

#[test]
fn kubectl_runs_commands_and_copies_files() {
    let test = "kubectl_runs_commands_and_copies_files";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = world(TALKER, "talker");
    for websockets in ["true", "false"] {
        let exec = |arguments: &[&str], input: &str| {
            let mut child = kubectl_command(&world, &[&["exec"], arguments].concat())
                .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("kubectl runs");
            child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
            crate::world::Done::from(child.wait_with_output().expect("it ends"))
        };
        let done = exec(&["talker", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], "");
        assert_eq!((done.code, done.stdout.as_str()), (7, "out\n"), "{websockets} {}", done.stderr);
        assert!(done.stderr.starts_with("err\n"), "{}", done.stderr);
        let done = exec(&["-i", "talker", "--", "sha256sum"], &"0123456789abcdef".repeat(65_536)).ok();
        let digest = "aca1cd027e979588d14b877b7b0cb8585ad9fec599eb45801992ee5382b3760f";
        assert!(done.stdout.starts_with(digest), "a megabyte goes in whole: {}", done.stdout);
        let done = exec(&["talker", "--", "seq", "1", "200000"], "").ok();
        assert_eq!(done.stdout.lines().count(), 200_000);
        let done = exec(&["talker", "--", "no-such-program"], "");
        assert_eq!(done.code, 127, "{}", done.stderr);
        assert!(done.stderr.contains("No such file or directory: no-such-program"), "{}", done.stderr);
        let done = exec(&["talker", "-c", "other", "--", "true"], "");
        assert!(done.stderr.contains("container other is not valid"), "{}", done.stderr);
    }

    let terminal = on_a_terminal(
        &world,
        "stty rows 33 cols 111; $kubectl exec -it talker -- sh -c 'stty size; tty; exit 5'; echo code $?",
    );
    for expected in ["33 111", "/dev/pts/", "code 5"] {
        assert!(terminal.contains(expected), "{terminal}");
    }

    let (there, back) = (world.path().join("there"), world.path().join("back"));
    fs::create_dir(&there).expect("a directory");
    fs::write(there.join("file"), vec![7_u8; 3_000_000]).expect("a file");
    kubectl(&world, &["cp", there.to_str().expect("text"), "talker:/tmp/copied"]).ok();
    kubectl(&world, &["cp", "talker:/tmp/copied", back.to_str().expect("text")]).ok();
    assert_eq!(fs::read(back.join("file")).expect("it came back"), vec![7_u8; 3_000_000]);
}

#[test]
fn kubectl_attaches() {
    let test = "kubectl_attaches";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = world(TALKER, "talker");
    let mut attached = piped(&world, &["attach", "talker"]);
    let mut lines = BufReader::new(attached.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let say = "while [ ! -e /tmp/end ]; do echo again > /tmp/say; sleep 0.2; done";
    let mut saying = piped(&world, &["exec", "talker", "--", "sh", "-c", say]);
    assert!(lines.any(|line| line == "again"));
    kubectl(&world, &["exec", "talker", "--", "touch", "/tmp/end"]).ok();
    assert!(lines.all(|line| line == "again"), "nothing of before, and it ends with the container");
    assert!(attached.wait().expect("it ends").success());
    saying.wait().expect("it ends");
}

#[test]
fn kubectl_forwards_ports() {
    let test = "kubectl_forwards_ports";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = world(SERVER, "server");
    for (target, ports, websockets) in
        [("pod/server", ":8000", "true"), ("pod/server", ":8000", "false"), ("service/server", ":80", "true")]
    {
        let mut forwarding = kubectl_command(&world, &["port-forward", "--address=127.0.0.1", target, ports])
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("kubectl runs");
        let mut told = String::new();
        // Kept to the end: kubectl tells of every connection.
        let mut output = BufReader::new(forwarding.stdout.take().expect("it is piped"));
        output.read_line(&mut told).expect("it tells");
        let port = told.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{target}: {told}"));
        let many: Vec<_> = (0..8).map(|_| std::thread::spawn(move || get(port))).collect();
        for answer in many {
            let answer = answer.join().expect("it answers");
            assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("dict"), "{target} {websockets}: {answer}");
        }
        forwarding.kill().expect("it runs");
        forwarding.wait().expect("it ends");
    }
}

#[test]
fn kube_rs_reads_logs_runs_commands_and_forwards_ports() {
    let test = "kube_rs_reads_logs_runs_commands_and_forwards_ports";
    if skip_without_root(test) || !has_kubectl(test) {
        return;
    }
    let world = world(SERVER, "server");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = atoll_client::from_kubeconfig(&world.kubeconfig(), None).await.expect("a client");
        let pods: Api<Pod> = Api::default_namespaced(client);

        let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
        let mut process = pods.exec("server", ["cat"], &params).await.expect("it runs");
        let mut stdin = process.stdin().expect("it was asked for");
        stdin.write_all(b"to and fro").await.expect("it reads");
        stdin.shutdown().await.expect("it ends");
        drop(stdin);
        let mut text = String::new();
        process.stdout().expect("it was asked for").read_to_string(&mut text).await.expect("it answers");
        assert_eq!(text, "to and fro");
        let status = process.take_status().expect("nobody took it").await.expect("it is told");
        assert_eq!(status.status.as_deref(), Some("Success"));

        let mut forwarder = pods.portforward("server", &[8000]).await.expect("it forwards");
        let mut stream = forwarder.take_stream(8000).expect("nobody took it");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("it takes a request");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("it answers");
        assert_eq!(&head, b"HTTP/1.0 200");
        drop(stream);

        let mut forwarder = pods.portforward("server", &[9]).await.expect("it forwards");
        let refused = forwarder.take_error(9).expect("nobody took it").await.expect("it is told");
        assert!(refused.contains("error forwarding port 9 to pod server"), "{refused}");

        let log = pods.logs("server", &LogParams::default()).await.expect("a log");
        assert!(log.contains("GET / HTTP/1.0"), "{log}");
        let mut attached = pods.attach("server", &AttachParams::default()).await.expect("it attaches");
        assert!(is_silent(&mut attached).await, "what was said before is not told");
    });
}

/// Whether a container that is silent stays so for a moment.
async fn is_silent(attached: &mut kube::api::AttachedProcess) -> bool {
    let mut byte = [0];
    let mut stdout = attached.stdout().expect("it was asked for");
    tokio::time::timeout(std::time::Duration::from_millis(100), stdout.read(&mut byte)).await.is_err()
}

fn piped(world: &World, arguments: &[&str]) -> Child {
    kubectl_command(world, arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl runs")
}

/// What a script prints that runs on a terminal of its own.
fn on_a_terminal(world: &World, script: &str) -> String {
    let kubectl = format!("kubectl --kubeconfig {}", world.kubeconfig().display());
    let output = Command::new("script")
        .args(["-qec", &format!("kubectl='{kubectl}'; {script}"), "/dev/null"])
        .env("HOME", world.path())
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
