//! The plane's listening sockets, bound before anything is started so that a taken port costs nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::args::PortArgs;
use crate::failure::{Exit, Failure};

/// One socket for each service, all on loopback.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) api: TcpListener,
    pub(super) router: TcpListener,
    pub(super) platform: TcpListener,
    pub(super) policy: TcpListener,
    /// For the orchestrator alone.
    pub(super) gateway: TcpListener,
    /// For the gateway alone, when a written conversation is played.
    pub(super) scripted: TcpListener,
}

impl Sockets {
    pub(super) fn bind(ports: PortArgs) -> Result<Self, Failure> {
        Ok(Self {
            api: bind("the Kubernetes API", ports.api_port, "--api-port")?,
            router: bind("the router", ports.router_port, "--router-port")?,
            platform: bind("the platform API", ports.platform_port, "--platform-port")?,
            policy: bind("the policy API", ports.policy_port, "--policy-port")?,
            gateway: bind("the gateway", 0, "")?,
            scripted: bind("the scripted upstream", 0, "")?,
        })
    }
}

/// The address that a socket got.
pub(super) fn address(socket: &TcpListener) -> Result<SocketAddr, Failure> {
    socket.local_addr().map_err(|error| Failure::because(Exit::Machine, "a socket has no address", &error))
}

/// Hands a socket to the runtime.
pub(super) fn into_async(socket: TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    tokio::net::TcpListener::from_std(socket)
        .map_err(|error| Failure::because(Exit::Machine, "a socket cannot be used", &error))
}

fn bind(what: &str, port: u16, flag: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let failure = Failure::because(Exit::Machine, format!("port {port} cannot be had for {what}"), &error);
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                failure.hint(format!("another program listens there; choose another port with {flag}, or 0 for any"))
            }
            _ => failure,
        }
    })
}
