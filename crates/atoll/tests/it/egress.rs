//! What sandboxes reach, in a network of the test's own: the machine of the outside is a namespace, with a web server, a
//! git server that wants a token, and something that plays the metadata service of a cloud.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use atoll_rt::tls::CertificateAuthority;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::world::{Done, World, eventually, skip_without_root};

const SERVER: &str = "192.0.2.80";
const METADATA: &str = "169.254.169.254";
const TOKEN: &str = "forge-token-that-nobody-inside-sees";

/// Serves HTTP on port 80, and git over HTTPS on port 443 to whoever has the token.
const FAR_SERVER: &str = r#"
import base64, http.server, os, ssl, subprocess, sys, threading
directory, token = sys.argv[1:3]
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def answer(self, status, body, kind='text/plain', headers=()):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header('content-type', kind)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer(200, b'hello from ' + self.headers['host'].encode())
class Git(Web):
    def do_GET(self): self.serve(b'')
    def do_POST(self):
        if self.headers.get('transfer-encoding') == 'chunked':
            body = b''
            while (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size); self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get('content-length', 0)))
        self.serve(body)
    def serve(self, body):
        wanted = 'Basic ' + base64.b64encode(b'x-access-token:' + token.encode()).decode()
        if self.headers.get('authorization') != wanted:
            return self.answer(401, b'who are you?', headers=[('www-authenticate', 'Basic realm="forge"')])
        path, _, query = self.path.partition('?')
        if path == '/echo':
            return self.answer(200, self.headers['authorization'].encode() + b' ' + token.encode())
        env = {'PATH': os.environ['PATH'], 'GIT_PROJECT_ROOT': directory, 'GIT_HTTP_EXPORT_ALL': '1', 'PATH_INFO': path,
            'QUERY_STRING': query, 'REQUEST_METHOD': self.command, 'REMOTE_USER': 'agent', 'CONTENT_LENGTH': str(len(body)),
            'CONTENT_TYPE': self.headers.get('content-type', ''), 'HTTP_CONTENT_ENCODING': self.headers.get('content-encoding', ''),
            'GIT_PROTOCOL': self.headers.get('git-protocol', '')}
        out = subprocess.run(['git', 'http-backend'], input=body, env=env, stdout=subprocess.PIPE).stdout
        head, _, content = out.partition(b'\r\n\r\n')
        fields = dict(line.split(': ', 1) for line in head.decode().split('\r\n') if line)
        status = int(fields.pop('Status', '200').split(' ')[0])
        self.answer(status, content, fields.pop('Content-Type', 'text/plain'), fields.items())
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
plain = Server(('', 80), Web)
secure = Server(('', 443), Git)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory + '/server.crt', directory + '/server.key')
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=plain.serve_forever, daemon=True).start()
print('listening', flush=True)
secure.serve_forever()
"#;

/// The machine of the outside; it ends when this is dropped.
struct Outside(Child);

impl Outside {
    fn start(directory: &Path) -> Self {
        std::fs::write(directory.join("server.py"), FAR_SERVER).expect("it is writable");
        let inside = format!(
            "ip link set lo up; read ready; ip address add {METADATA}/32 dev far; ip address add {SERVER}/24 dev far
             ip link set far up; exec python3 {0}/server.py {0} {TOKEN}",
            directory.display()
        );
        let mut child = Command::new("unshare")
            .args(["--net", "--pid", "--kill-child", "--fork", "/bin/sh", "-c", &inside])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        let pid = child.id();
        eventually("the outside has a network of its own", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|namespace| namespace != own)
        });
        sh(&format!(
            "ip link add near type veth peer name far netns {pid} && ip address add 192.0.2.1/24 dev near && \
             ip link set near up && ip route add {METADATA}/32 dev near"
        ));
        child.stdin.take().expect("it is piped").write_all(b"ready\n").expect("it reads");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        assert_eq!(lines.next().expect("it starts").expect("text"), "listening");
        Self(child)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(script: &str) {
    assert!(Command::new("/bin/sh").args(["-ec", script]).status().expect("sh runs").success(), "{script}");
}

/// This thread's own network, and its own hosts file, in which the outside's names are.
fn own_network(directory: &Path) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    let hosts = directory.join("hosts");
    let names = format!("127.0.0.1 localhost\n{SERVER} web.test\n{SERVER} git.test\n{METADATA} metadata.test\n");
    std::fs::write(&hosts, names).expect("it is writable");
    mount(Some(&hosts), "/etc/hosts", none, MsFlags::MS_BIND, none).expect("a hosts file");
    sh("ip link set lo up");
}

/// Certificates of the outside, and a repository there.
fn furnish(directory: &Path) {
    let authority = CertificateAuthority::generate().expect("keys");
    let server = authority.issue_server(&["git.test"]).expect("a certificate");
    for (name, text) in [
        ("ca.crt", authority.certificate_pem()),
        ("server.crt", &server.certificate_pem),
        ("server.key", server.key_pem.expose()),
    ] {
        std::fs::write(directory.join(name), text).expect("it is writable");
    }
    sh(&format!(
        "cd {}; git init -q -b main seed; cd seed; echo one > file; git add file
         git -c user.name=t -c user.email=t@example.com commit -qm one
         cd ..; git clone -q --bare seed repo.git; git -C repo.git config http.receivepack true",
        directory.display()
    ));
}

/// A world whose machine has an outside, with a plane.
fn world_with_outside() -> (World, Outside) {
    let world = World::new();
    own_network(world.path());
    furnish(world.path());
    let outside = Outside::start(world.path());
    let ports = ["--api-port", "--router-port", "--platform-port", "--policy-port"].map(|port| [port, "0"]);
    let arguments = [&["up", "--detach"][..], ports.as_flattened()].concat();
    let up = world.command(&arguments).env("SSL_CERT_FILE", world.path().join("ca.crt")).output();
    Done::from(up.expect("atoll runs")).ok();
    (world, outside)
}

/// Fetches a URL in the sandbox `box` without regard to failures.
fn fetch(world: &World, url: &str) -> String {
    let program = format!(
        "import urllib.request
try:
    print(urllib.request.urlopen('{url}', timeout=5).read().decode())
except Exception as error:
    print('failed:', error)"
    );
    world.atoll(&["sandbox", "exec", "box", "--", "python3", "-c", &program]).stdout.trim().to_owned()
}

/// The command that `atoll egress ls` tells for the last refusal of a host.
fn told_command(world: &World, host: &str) -> String {
    let mut command = String::new();
    eventually("the refusal is told", || {
        let lines = world.atoll(&["egress", "ls"]).ok().stdout;
        let last = lines.lines().rfind(|line| line.starts_with("refused") && line.contains(host));
        command = last.and_then(|line| line.split("allow: atoll ").nth(1)).unwrap_or_default().to_owned();
        !command.is_empty()
    });
    command
}

#[test]
fn a_refused_connection_tells_the_command_that_allows_it() {
    if skip_without_root("a_refused_connection_tells_the_command_that_allows_it") {
        return;
    }
    let (world, _outside) = world_with_outside();
    world.atoll(&["sandbox", "create", "box"]).ok();
    assert!(fetch(&world, "http://web.test/").contains("Name or service not known"));
    assert_eq!(told_command(&world, "web.test"), "egress allow web.test --namespace default");
    world.atoll(&["egress", "allow", "web.test:80"]).ok();
    // The name is told now, and its address is one that no name may have unless the administrator lists it.
    eventually("the address is refused", || {
        fetch(&world, "http://web.test/");
        world.atoll(&["egress", "ls"]).ok().stdout.contains("is private, link-local or this machine's")
    });
    let command = told_command(&world, "web.test:80");
    assert_eq!(command, format!("egress floor {SERVER}"));
    world.atoll(&command.split(' ').collect::<Vec<_>>()).ok();
    eventually("the name is reached", || fetch(&world, "http://web.test/") == "hello from web.test");

    // The other server at the same address is not allowed, by whatever way.
    for url in ["http://git.test/", &format!("http://{SERVER}/"), "http://192.0.2.80:443/"] {
        assert!(fetch(&world, url).starts_with("failed"), "{url}");
    }
    world.atoll(&["egress", "deny", "web.test:80"]).ok();
    eventually("it is refused again", || fetch(&world, "http://web.test/").starts_with("failed"));

    let json = world.atoll(&["egress", "ls", "--json", "--sandbox", "box"]).ok().stdout;
    let records: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let closed = records.iter().find(|record| record["stage"] == "closed").expect("a connection that ended");
    assert!(closed["bytesReceived"].as_u64() > Some(18) && closed["address"] == SERVER, "{closed}");
    assert!(world.atoll(&["audit", "verify"]).ok().stdout.contains("audit chain holds"));
    let audit = world.atoll(&["audit", "ls", "--json"]).ok().stdout;
    assert!(audit.contains("egress/connect") && audit.contains("sandbox/default/box"), "{audit}");
}

#[test]
fn the_metadata_service_is_out_of_reach_whatever_rules_say() {
    if skip_without_root("the_metadata_service_is_out_of_reach_whatever_rules_say") {
        return;
    }
    let (world, _outside) = world_with_outside();
    world.atoll(&["sandbox", "create", "box"]).ok();
    world.atoll(&["egress", "allow", &format!("{METADATA}:80")]).ok();
    world.atoll(&["egress", "allow", "metadata.test:80"]).ok();
    world.atoll(&["egress", "allow", "web.test:80"]).ok();
    world.atoll(&["egress", "floor", "0.0.0.0/0"]).ok();
    eventually("others are reached", || fetch(&world, "http://web.test/") == "hello from web.test");
    for url in [
        format!("http://{METADATA}/latest/meta-data/"),
        "http://metadata.test/".to_owned(),
        "http://2852039166/".to_owned(),
        "http://0xa9fea9fe/".to_owned(),
        "http://[::ffff:169.254.169.254]/".to_owned(),
        "http://10.201.0.1:8080/".to_owned(),
        format!("http://{SERVER}/"),
    ] {
        assert!(fetch(&world, &url).starts_with("failed"), "{url}");
    }
    // The machine itself reaches it: it is there.
    let direct = Command::new("curl").args(["-sS", &format!("http://{METADATA}/")]).output();
    match direct {
        Ok(output) => assert!(String::from_utf8_lossy(&output.stdout).contains("hello from"), "{output:?}"),
        Err(_) => println!("SKIPPED the twin of the_metadata_service_is_out_of_reach: curl is not installed"),
    }
}

#[test]
fn git_works_with_a_token_that_nobody_inside_sees() {
    if skip_without_root("git_works_with_a_token_that_nobody_inside_sees") {
        return;
    }
    let (world, _outside) = world_with_outside();
    world.atoll(&["egress", "floor", SERVER]).ok();
    let rule =
        "allow: [{name: git.test, paths: ['/repo.git/**', '/echo'], credential: {secret: forge, scheme: basic}}]";
    let objects = format!(
        r#"apiVersion: v1
kind: Secret
metadata: {{name: forge, namespace: default}}
stringData: {{token: {TOKEN}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: forge, namespace: default, labels: {{atoll.local/egress: rules}}}}
data: {{egress.yaml: "{rule}"}}
"#
    );
    if !apply(&world, &objects) {
        println!("SKIPPED git_works_with_a_token_that_nobody_inside_sees: kubectl is not installed");
        return;
    }
    world.atoll(&["sandbox", "create", "box"]).ok();
    let inside = |script: &str| world.atoll(&["sandbox", "exec", "box", "--", "sh", "-c", script]);
    eventually("the repository is cloned", || {
        inside("cd /workspace; rm -rf repo; GIT_TERMINAL_PROMPT=0 git clone -q https://git.test/repo.git 2>&1").code
            == 0
    });
    let push = "cd /workspace/repo; echo two > file; git -c user.name=a -c user.email=a@example.com commit -qam two; \
                GIT_TERMINAL_PROMPT=0 git push -q origin main 2>&1";
    inside(push).ok();
    let log = Command::new("git").arg("-C").arg(world.path().join("repo.git")).args(["log", "--format=%s"]).output();
    assert_eq!(String::from_utf8_lossy(&log.expect("git runs").stdout), "two\none\n");

    // The token is nowhere inside, also where the server sends it back.
    let hunt = format!(
        "env; cat /proc/*/environ 2>/dev/null; cat /workspace/repo/.git/config; grep -r {TOKEN} /etc /workspace 2>/dev/null; true"
    );
    assert!(!inside(&hunt).ok().stdout.contains(TOKEN));
    let echo =
        "python3 -c \"import urllib.request; print(urllib.request.urlopen('https://git.test/echo').read().decode())\"";
    let echoed = inside(echo).ok().stdout;
    assert!(echoed.contains("***") && !echoed.contains(TOKEN), "{echoed}");
    // Another path, another token, and no rule at all.
    assert_ne!(inside("GIT_TERMINAL_PROMPT=0 git ls-remote https://git.test/other.git 2>&1").code, 0);
    let own = "GIT_TERMINAL_PROMPT=0 git -c http.extraHeader='Authorization: Basic YTpi' ls-remote https://git.test/repo.git 2>&1";
    let refused = inside(own);
    assert!(refused.code != 0 && refused.stdout.contains("403"), "{refused:?}");
    assert!(world.atoll(&["egress", "ls"]).ok().stdout.contains("brings a credential of its own"));
    assert!(!world.atoll(&["audit", "ls", "--json"]).ok().stdout.contains(TOKEN));
}

/// `kubectl apply`; false where there is none.
fn apply(world: &World, objects: &str) -> bool {
    let file = world.path().join("objects.yaml");
    std::fs::write(&file, objects).expect("it is writable");
    let done =
        Command::new("kubectl").arg("--kubeconfig").arg(world.kubeconfig()).arg("apply").arg("-f").arg(&file).output();
    let Ok(output) = done else { return false };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}
