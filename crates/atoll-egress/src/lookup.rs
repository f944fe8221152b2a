//! Looking names up, once for each connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use async_trait::async_trait;

use crate::name::HostName;

const TIMEOUT: Duration = Duration::from_secs(5);
const ADDRESSES_MAX: usize = 16;

/// Finds a name's IPv4 addresses.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// The addresses; empty when there are none.
    ///
    /// # Errors
    /// The resolver does not answer.
    async fn addresses(&self, name: &HostName) -> io::Result<Vec<Ipv4Addr>>;
}

/// The machine's own way to look names up: its hosts file and resolvers.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineLookup;

#[async_trait]
impl Lookup for MachineLookup {
    async fn addresses(&self, name: &HostName) -> io::Result<Vec<Ipv4Addr>> {
        // The final dot keeps the machine's search domains out.
        let host = format!("{name}.");
        let found = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host.as_str(), 0)))
            .await
            .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?;
        match found {
            Ok(found) => Ok(unique(found.map(|address| address.ip()))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            // The C library tells of a name without addresses by an error as well.
            Err(_) => Ok(unique(tokio::net::lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()))),
        }
    }
}

fn unique(found: impl Iterator<Item = IpAddr>) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    for address in found {
        if let IpAddr::V4(address) = address
            && !addresses.contains(&address)
            && addresses.len() < ADDRESSES_MAX
        {
            addresses.push(address);
        }
    }
    addresses
}
