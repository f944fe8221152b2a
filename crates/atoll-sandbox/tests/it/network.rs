//! What network rules allow and what they do not: between sandboxes, and from a sandbox to a machine of the outside,
//! which is a network namespace here. Each refusal stands beside the rule that lifts it.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use atoll_sandbox::RunningSandbox;
use atoll_sandbox::network::rules::{AddressRange, NetworkRule, NetworkRules, PortRange, Protocol, RANGES_MAX};
use atoll_sandbox::network::{HostNetwork, links_with_rules};

use crate::guest::Guest;
use crate::plane::{Plane, idle, script, with_plane};

crate::runner::tests![
    a_connection_needs_both_sides_rules,
    rules_hold_by_port_and_protocol,
    taking_a_rule_back_ends_what_it_allowed,
    a_sandbox_cannot_borrow_an_address,
    only_listed_addresses_of_the_outside_are_reached,
    rules_outlive_the_launcher_and_flushing,
    rules_go_with_their_sandbox,
    too_many_rules_are_refused_and_the_old_ones_stay,
];

/// Where the outside's machine plays the metadata service.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

fn python(program: &str) -> String {
    format!("exec /usr/bin/python3 -u - <<'EOF'\n{program}\nEOF\n")
}

/// Answers TCP with `hello` and UDP with what it got. It says that it listens in one write: two servers may share a pipe.
fn echo_server(address: &str) -> String {
    python(&format!(
        "import os, socket, threading
tcp = socket.create_server(('{address}', 7000))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('{address}', 7001))
def answer():
    while True:
        data, peer = udp.recvfrom(512)
        print('got', data.decode())
        udp.sendto(data, peer)
threading.Thread(target=answer, daemon=True).start()
os.write(1, b'listening\\n')
while True:
    connection, _ = tcp.accept()
    connection.sendall(b'hello')
    threading.Thread(target=lambda c: [c.sendall(x) for x in iter(lambda: c.recv(512), b'')], args=(connection,), daemon=True).start()"
    ))
}

fn listening(plane: &Plane, number: u8) -> RunningSandbox {
    let sandbox = plane.create(script(number, &echo_server("0.0.0.0")));
    plane.log_with(&sandbox.id, "listening");
    sandbox
}

/// Whether a sandbox reaches a TCP server.
fn reaches(guest: &Guest, address: Ipv4Addr, port: u16) -> bool {
    let probe = python(&format!(
        "import socket
try:
    print(socket.create_connection(('{address}', {port}), 1).recv(5).decode())
except OSError as error:
    print('refused', error)"
    ));
    let printed = guest.sh_as_root(&probe).stdout;
    assert!(printed == "hello\n" || printed.starts_with("refused"), "{printed}");
    printed == "hello\n"
}

fn reaches_udp(guest: &Guest, address: Ipv4Addr) -> bool {
    let probe = python(&format!(
        "import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(1)
try:
    sock.sendto(b'hello', ('{address}', 7001))
    print(sock.recv(5).decode())
except OSError as error:
    print('refused', error)"
    ));
    guest.sh_as_root(&probe).stdout == "hello\n"
}

fn range(address: Ipv4Addr) -> AddressRange {
    AddressRange { first: address, last: address }
}

fn rule(address: Ipv4Addr, protocol: Protocol, port: u16) -> NetworkRule {
    let ports = vec![PortRange { first: port, last: port }];
    NetworkRule { addresses: vec![range(address)], protocol: Some(protocol), ports }
}

fn sends(rules: Vec<NetworkRule>) -> NetworkRules {
    NetworkRules { egress: rules, ..NetworkRules::default() }
}

fn takes(rules: Vec<NetworkRule>) -> NetworkRules {
    NetworkRules { ingress: rules, ..NetworkRules::default() }
}

fn allow(plane: &Plane, sandbox: &RunningSandbox, rules: NetworkRules) {
    plane
        .run(plane.driver.set_network(&sandbox.id, rules))
        .unwrap_or_else(|error| panic!("{}", atoll_stdx::chain(&error)));
}

fn a_connection_needs_both_sides_rules() {
    with_plane(|plane| {
        let (server, client) = (listening(plane, 3), plane.create(idle(2)));
        let guest = plane.guest(&client);
        let (out, into) = (rule(server.address, Protocol::Tcp, 7000), rule(client.address, Protocol::Tcp, 7000));
        assert!(!reaches(&guest, server.address, 7000), "nobody may anything");
        allow(plane, &client, sends(vec![out.clone()]));
        assert!(!reaches(&guest, server.address, 7000), "the server does not take it");
        allow(plane, &server, takes(vec![into.clone()]));
        assert!(reaches(&guest, server.address, 7000), "both agree");
        allow(plane, &client, sends(vec![]));
        assert!(!reaches(&guest, server.address, 7000), "the client may not begin it");
        let everybody = NetworkRule { addresses: vec![AddressRange::ALL], protocol: None, ports: vec![] };
        allow(plane, &client, sends(vec![everybody.clone()]));
        allow(plane, &server, takes(vec![everybody]));
        assert!(reaches(&guest, server.address, 7000), "everything may");
    });
}

fn rules_hold_by_port_and_protocol() {
    with_plane(|plane| {
        let (server, client) = (listening(plane, 3), plane.create(idle(2)));
        let guest = plane.guest(&client);
        let everything = NetworkRule { addresses: vec![AddressRange::ALL], protocol: None, ports: vec![] };
        allow(plane, &server, takes(vec![everything]));
        let with_ports = |first, last| {
            let ports = vec![PortRange { first: 1, last: 2 }, PortRange { first, last }];
            NetworkRule { ports, ..rule(server.address, Protocol::Tcp, 0) }
        };
        for (rules, tcp, udp) in [
            (vec![rule(server.address, Protocol::Udp, 7000)], false, false),
            (vec![rule(server.address, Protocol::Udp, 7001)], false, true),
            (vec![rule(server.address, Protocol::Tcp, 7001)], false, false),
            (vec![with_ports(7001, 9000)], false, false),
            (vec![with_ports(6000, 7000)], true, false),
            (vec![rule(Ipv4Addr::new(10, 201, 7, 9), Protocol::Tcp, 7000)], false, false),
            (vec![rule(server.address, Protocol::Tcp, 7000), rule(server.address, Protocol::Udp, 7001)], true, true),
        ] {
            allow(plane, &client, sends(rules.clone()));
            let seen = (reaches(&guest, server.address, 7000), reaches_udp(&guest, server.address));
            assert_eq!(seen, (tcp, udp), "{rules:?}");
        }
    });
}

fn taking_a_rule_back_ends_what_it_allowed() {
    with_plane(|plane| {
        let server = listening(plane, 3);
        let ask = python(&format!(
            "import socket, time
sock = socket.create_connection(('{}', 7000), 5)
sock.settimeout(1)
sock.recv(5)
print('connected')
while True:
    time.sleep(0.05)
    try:
        sock.sendall(b'x')
        sock.recv(1)
        open('/tmp/alive', 'w').write(str(time.monotonic()))
    except OSError as error:
        print('cut off', error)
        break",
            server.address
        ));
        let client = plane.create(script(2, &format!("sleep 1\n{ask}")));
        allow(plane, &client, sends(vec![rule(server.address, Protocol::Tcp, 7000)]));
        allow(plane, &server, takes(vec![rule(client.address, Protocol::Tcp, 7000)]));
        plane.log_with(&client.id, "connected");
        allow(plane, &client, NetworkRules::default());
        plane.log_with(&client.id, "cut off");
    });
}

fn a_sandbox_cannot_borrow_an_address() {
    with_plane(|plane| {
        let (server, client) = (listening(plane, 3), plane.create(idle(2)));
        let everything = NetworkRule { addresses: vec![AddressRange::ALL], protocol: None, ports: vec![] };
        allow(plane, &client, sends(vec![everything.clone()]));
        allow(plane, &server, takes(vec![everything]));
        // Nobody inside has rights over links: root of this machine does it for them.
        let record = plane.run(plane.driver.inspect(&client.id)).unwrap();
        let in_its_network = |script: &str| {
            let network = format!("--net=/proc/{}/ns/net", record.guest_pid);
            assert!(Command::new("nsenter").args([&network, "/bin/sh", "-c", script]).status().unwrap().success());
        };
        in_its_network("ip address add 10.201.7.99/32 dev eth0");
        let send = |source: Ipv4Addr, text: &str| {
            in_its_network(&python(&format!(
                "import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('{source}', 0))
sock.sendto(b'{text}', ('{}', 7001))",
                server.address
            )));
        };
        let borrowed = Ipv4Addr::new(10, 201, 7, 99);
        send(borrowed, "borrowed");
        send(client.address, "own");
        let log = plane.log_with(&server.id, "got own");
        assert!(!log.contains("got borrowed"), "{log}");
        let mut network = HostNetwork::open(&plane.state_dir().join("run")).unwrap();
        network.remove_filter().unwrap();
        send(borrowed, "borrowed");
        plane.log_with(&server.id, "got borrowed");
    });
}

/// A machine of the outside, linked to this one's network; its server runs until this is dropped.
struct Outside {
    child: Child,
    /// What the server prints has somewhere to go for as long as it runs.
    _output: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Outside {
    fn start() -> Self {
        // The machine itself forwards, as one with a way out for UDP does; this is the test's own network.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let server =
            format!("( {} ) & ( {} ) & wait", echo_server(&METADATA.to_string()), echo_server(&SERVER.to_string()));
        let inside = format!(
            "ip link set lo up; read ready; ip address add {METADATA}/32 dev far; ip address add {SERVER}/24 dev far
             ip link set far up; ip route add default via 192.0.2.1
             {server}"
        );
        let mut child = Command::new("/usr/bin/unshare")
            .args(["--net", "--pid", "--kill-child", "--fork", "/bin/sh", "-c", &inside])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let pid = child.id();
        let moved = || std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|namespace| namespace != own);
        assert!(crate::plane::eventually(moved));
        let connect = format!(
            "ip link add near type veth peer name far netns {pid} && ip address add 192.0.2.1/24 dev near && \
             ip link set near up && ip route add {METADATA}/32 dev near"
        );
        assert!(Command::new("/bin/sh").args(["-c", &connect]).status().unwrap().success());
        use std::io::{BufRead, BufReader, Write};
        child.stdin.take().unwrap().write_all(b"ready\n").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            assert_eq!(lines.next().unwrap().unwrap(), "listening");
        }
        Self { child, _output: lines }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn only_listed_addresses_of_the_outside_are_reached() {
    with_plane(|plane| {
        let _outside = Outside::start();
        let client = plane.create(idle(2));
        let guest = plane.guest(&client);
        let reached = || [SERVER, METADATA].map(|address| reaches(&guest, address, 7000));
        let below = |address: Ipv4Addr| Ipv4Addr::from_bits(address.to_bits() - 1);
        let above = |address: Ipv4Addr| Ipv4Addr::from_bits(address.to_bits() + 1);
        assert_eq!(reached(), [false, false], "no rule");
        let around = vec![
            AddressRange { first: Ipv4Addr::UNSPECIFIED, last: below(METADATA) },
            AddressRange { first: above(METADATA), last: Ipv4Addr::BROADCAST },
        ];
        let all_but_metadata = NetworkRule { addresses: around, ..rule(SERVER, Protocol::Tcp, 7000) };
        allow(plane, &client, sends(vec![all_but_metadata]));
        assert_eq!(reached(), [true, false], "everything but the metadata address");
        allow(plane, &client, sends(vec![rule(METADATA, Protocol::Tcp, 7000)]));
        assert_eq!(reached(), [false, true], "the attack works where it is allowed");
        allow(plane, &client, sends(vec![rule(SERVER, Protocol::Udp, 7001)]));
        assert!(reaches_udp(&guest, SERVER) && !reaches_udp(&guest, METADATA));
    });
}

fn rules_outlive_the_launcher_and_flushing() {
    with_plane(|plane| {
        let (server, client) = (listening(plane, 3), plane.create(idle(2)));
        let guest = plane.guest(&client);
        allow(plane, &client, sends(vec![rule(server.address, Protocol::Tcp, 7000)]));
        allow(plane, &server, takes(vec![rule(client.address, Protocol::Tcp, 7000)]));
        plane.kill_launcher();
        plane.restart();
        assert!(reaches(&guest, server.address, 7000), "the launcher is not in the way");
        allow(plane, &client, sends(vec![rule(server.address, Protocol::Tcp, 7000)]));
        allow(plane, &server, takes(vec![rule(client.address, Protocol::Tcp, 7000)]));
        let mut network = HostNetwork::open(&plane.state_dir().join("run")).unwrap();
        network.remove_filter().unwrap();
        // Any start looks at the filter.
        plane.create(idle(4));
        assert!(reaches(&guest, server.address, 7000), "they are put in force again");
        assert!(!reaches(&guest, server.address, 7002));
    });
}

fn rules_go_with_their_sandbox() {
    with_plane(|plane| {
        let (client, other) = (plane.create(idle(2)), plane.create(idle(3)));
        assert_eq!(links_with_rules().unwrap(), 0);
        allow(plane, &client, sends(vec![rule(METADATA, Protocol::Tcp, 1)]));
        allow(plane, &other, sends(vec![]));
        assert_eq!(links_with_rules().unwrap(), 2);
        plane.run(plane.driver.destroy(&client.id, 0)).unwrap();
        assert_eq!(links_with_rules().unwrap(), 1);
        // A launcher that was killed leaves rules; the next one collects those whose sandbox has gone.
        plane.kill_launcher();
        plane.restart();
        plane.run(plane.driver.destroy(&other.id, 0)).unwrap();
        assert_eq!(links_with_rules().unwrap(), 0);
    });
}

fn too_many_rules_are_refused_and_the_old_ones_stay() {
    with_plane(|plane| {
        let (server, client) = (listening(plane, 3), plane.create(idle(2)));
        let guest = plane.guest(&client);
        allow(plane, &client, sends(vec![rule(server.address, Protocol::Tcp, 7000)]));
        allow(plane, &server, takes(vec![rule(client.address, Protocol::Tcp, 7000)]));
        let ranges = |count: u32| (0..count).map(|index| range(Ipv4Addr::from_bits(0x0b00_0000 + 2 * index))).collect();
        let many = |count| sends(vec![NetworkRule { addresses: ranges(count), protocol: None, ports: vec![] }]);
        let refused = plane.run(plane.driver.set_network(&client.id, many(RANGES_MAX as u32 + 1))).unwrap_err();
        assert!(atoll_stdx::chain(&refused).contains("2049 address ranges"), "{}", atoll_stdx::chain(&refused));
        assert!(reaches(&guest, server.address, 7000));
        allow(plane, &client, many(RANGES_MAX as u32));
        assert!(!reaches(&guest, server.address, 7000));
    });
}
