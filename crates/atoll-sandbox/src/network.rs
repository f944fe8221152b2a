//! A sandbox's place in the network: a namespace with one link to the machine, one address, one route, and a filter on
//! the machine's side that lets nothing pass but answers and what rules allow.

mod filter;
mod namespace;
mod netlink;
mod route;
pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use atoll_stdx::Hint;

use netlink::{Family, Netlink, NetlinkError};
use rules::NetworkRules;

/// Names of the machine's ends of links start with this; the filter goes by it.
pub const LINK_PREFIX: &str = "atv";

/// The network could not be made as it must be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The address is routed to another sandbox.
    #[error("the address {0} belongs to something else on this machine")]
    AddressInUse(Ipv4Addr),
    /// Rules that cannot be put in force.
    #[error("these network rules cannot be put in force")]
    Rules(#[source] rules::InvalidRules),
    /// The packet filter could not be put in force; nothing is started without it.
    #[error("the packet filter that keeps sandboxes from this machine cannot be installed")]
    Filter(#[source] NetlinkError),
    /// A link, an address or a route could not be made.
    #[error("cannot {attempted}")]
    Link {
        /// What.
        attempted: &'static str,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// A namespace could not be made or entered.
    #[error("cannot {attempted}")]
    Namespace {
        /// What.
        attempted: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Hint for NetworkError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::AddressInUse(_) => Some("choose another address; `ip route` shows what has this one".to_owned()),
            Self::Filter(_) => Some(
                "run a kernel with nf_tables, connection tracking and its address translation (CONFIG_NF_TABLES_INET, \
                 CONFIG_NFT_CT, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_REDIR, CONFIG_NFT_REJECT_INET)"
                    .to_owned(),
            ),
            Self::Rules(_) => Some("allow a few whole networks instead of many single addresses".to_owned()),
            Self::Link { .. } => Some("run a kernel with CONFIG_VETH, as root with CAP_NET_ADMIN".to_owned()),
            Self::Namespace { .. } => Some("run as root with CAP_SYS_ADMIN".to_owned()),
        }
    }
}

/// The network of the machine that the launcher was started in.
#[derive(Debug)]
pub struct HostNetwork {
    namespace: OwnedFd,
    routes: Netlink,
    filter: Netlink,
    /// The generation of packet filters in which ours was last seen in force.
    seen_in_force: Option<u32>,
    /// Rules by link, to put them in force again where somebody flushed them.
    applied: BTreeMap<String, Applied>,
    /// Links that have chains of their own, those of earlier launchers and of other planes included.
    chained: BTreeSet<String>,
    /// Held while the filter is looked at and something depends on it: several planes share one machine.
    lock: File,
    links_made: u64,
}

/// What was put in force for one link.
#[derive(Debug)]
struct Applied {
    address: Ipv4Addr,
    rules: NetworkRules,
}

/// A network namespace linked to the machine, still without addresses.
#[derive(Debug)]
pub struct Unaddressed {
    link: String,
    namespace: OwnedFd,
    routes: Netlink,
}

impl Unaddressed {
    /// The machine's end of its link.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.link
    }
}

impl HostNetwork {
    /// Opens what is needed; changes nothing.
    ///
    /// # Errors
    /// No netlink, or the lock file's directory cannot be made.
    pub fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let namespace = namespace::current()?;
        let open = |family| {
            Netlink::open(family).map_err(|source| NetworkError::Link { attempted: "open a netlink socket", source })
        };
        let lock = std::fs::create_dir_all(run_dir)
            .and_then(|()| {
                let mut options = File::options();
                options.create(true).truncate(false).write(true).mode(0o600).open(run_dir.join("network.lock"))
            })
            .map_err(|source| NetworkError::Namespace { attempted: "open the network's lock", source })?;
        let (routes, filter) = (open(Family::Route)?, open(Family::Filter)?);
        Ok(Self {
            namespace,
            routes,
            filter,
            seen_in_force: None,
            applied: BTreeMap::new(),
            chained: BTreeSet::new(),
            lock,
            links_made: 0,
        })
    }

    /// Makes a network namespace and its link, and puts the filter in force first: the slow part, which can be done
    /// ahead.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing is left then.
    pub fn prepare(&mut self) -> Result<Unaddressed, NetworkError> {
        let sandbox = namespace::create(&self.namespace)?;
        let _held = self.hold_lock()?;
        self.ensure_filter()?;
        loop {
            self.links_made += 1;
            let link = link_name(self.links_made);
            match route::make_link(&mut self.routes, &link, &sandbox.namespace) {
                Err(error) if route::exists(&error) => {}
                made => {
                    made?;
                    route::raise_host(&mut self.routes, &link)?;
                    return Ok(Unaddressed { link, namespace: sandbox.namespace, routes: sandbox.routes });
                }
            }
        }
    }

    /// Whether a prepared network still has its link.
    #[must_use]
    pub fn is_whole(&self, prepared: &Unaddressed) -> bool {
        route::has_link(&self.routes, &prepared.link)
    }

    /// Removes a prepared network. Slow: the kernel waits for packets under way.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn discard(&mut self, prepared: Unaddressed) -> Result<(), NetworkError> {
        route::remove_link(&mut self.routes, &prepared.link)
    }

    /// Gives a prepared network its address, with the filter in force, and returns its namespace. That lives as long
    /// as the result or a process in it.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing is left then.
    pub fn address(
        &mut self,
        prepared: Unaddressed,
        address: Ipv4Addr,
        router: Ipv4Addr,
    ) -> Result<OwnedFd, NetworkError> {
        let Unaddressed { link, namespace, routes: mut inside } = prepared;
        let _held = self.hold_lock()?;
        self.ensure_filter()?;
        // When something fails, the link dies with its namespace, which is dropped here.
        route::address_host(&mut self.routes, &link, address, router)?;
        route::address_sandbox(&mut inside, address, router)?;
        Ok(namespace)
    }

    /// Takes an address back at once, with its rules. Link and namespace go when the last process in it has gone.
    ///
    /// # Errors
    /// The rules stay.
    pub fn release(&mut self, link: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        route::remove_host_route(&mut self.routes, link, address);
        self.applied.remove(link);
        if !self.chained.contains(link) {
            return Ok(());
        }
        let _held = self.hold_lock()?;
        self.ensure_filter()?;
        self.remove_chains(link)
    }

    /// Puts rules in force for a sandbox's link, in place of those it had, in one step.
    ///
    /// # Errors
    /// [`NetworkError::Rules`] or [`NetworkError::Filter`]; the rules before stay in force then.
    pub fn set_rules(&mut self, link: &str, address: Ipv4Addr, rules: NetworkRules) -> Result<(), NetworkError> {
        rules.validate().map_err(NetworkError::Rules)?;
        let _held = self.hold_lock()?;
        self.ensure_filter()?;
        self.change(|netlink| filter::sandbox::apply(netlink, link, address, &rules))?;
        self.chained.insert(link.to_owned());
        self.applied.insert(link.to_owned(), Applied { address, rules });
        Ok(())
    }

    /// Removes rules of links that are gone: their launchers were killed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn collect(&mut self) -> Result<(), NetworkError> {
        let _held = self.hold_lock()?;
        if !self.filter_in_force()? {
            return Ok(());
        }
        let links: BTreeSet<String> = sandbox_links().into_iter().collect();
        let gone: Vec<String> = self.chained.difference(&links).cloned().collect();
        gone.iter().try_for_each(|link| self.remove_chains(link))
    }

    fn remove_chains(&mut self, link: &str) -> Result<(), NetworkError> {
        self.change(|netlink| filter::sandbox::remove(netlink, link))?;
        self.chained.remove(link);
        Ok(())
    }

    /// Makes one change of the filter, after which it need not be looked at anew.
    fn change(&mut self, change: impl FnOnce(&mut Netlink) -> Result<(), NetlinkError>) -> Result<(), NetworkError> {
        change(&mut self.filter).map_err(NetworkError::Filter)?;
        let now = filter::generation(&mut self.filter).map_err(NetworkError::Filter)?;
        if self.seen_in_force.is_some_and(|seen| seen.wrapping_add(1) == now) {
            self.seen_in_force = Some(now);
        }
        Ok(())
    }

    /// Whether the filter is in force.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn filter_in_force(&mut self) -> Result<bool, NetworkError> {
        let mut look = || {
            // Read before the rules: a change in between makes the number old, and the next look a full one.
            let generation = filter::generation(&mut self.filter)?;
            if self.seen_in_force == Some(generation) {
                return Ok(true);
            }
            let sight = filter::look(&mut self.filter)?;
            // What was applied here and is not there any more was flushed, whoever did it.
            let whole = sight.in_force && self.applied.keys().all(|link| sight.links.contains(link));
            self.seen_in_force = whole.then_some(generation);
            self.chained = sight.links;
            Ok(whole)
        };
        look().map_err(NetworkError::Filter)
    }

    /// Puts the filter in force where it is not.
    ///
    /// # Errors
    /// [`NetworkError::Filter`].
    pub fn ensure_filter(&mut self) -> Result<(), NetworkError> {
        if self.filter_in_force()? {
            return Ok(());
        }
        filter::install(&mut self.filter).map_err(NetworkError::Filter)?;
        for (link, Applied { address, rules }) in &self.applied {
            filter::sandbox::apply(&mut self.filter, link, *address, rules).map_err(NetworkError::Filter)?;
        }
        if self.filter_in_force()? { Ok(()) } else { Err(NetworkError::Filter(NetlinkError::Ignored)) }
    }

    /// Removes the filter, if no sandbox of any plane is left on this machine.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_unused_filter(&mut self) -> Result<(), NetworkError> {
        let _held = self.hold_lock()?;
        if sandbox_links().is_empty() && self.filter_in_force()? {
            filter::remove(&mut self.filter).map_err(NetworkError::Filter)?;
        }
        Ok(())
    }

    /// Removes the filter whoever relies on it. For tests that show what it is for.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_filter(&mut self) -> Result<(), NetworkError> {
        filter::remove(&mut self.filter).map_err(NetworkError::Filter)
    }

    fn hold_lock(&self) -> Result<Held, NetworkError> {
        let failed = |source| NetworkError::Namespace { attempted: "take the network's lock", source };
        let file = self.lock.try_clone().map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Held(file))
    }
}

/// Names of links, told apart by process: planes share the machine.
fn link_name(counter: u64) -> String {
    let hash = atoll_stdx::name_hash(&format!("{}/{counter}", std::process::id()));
    format!("{LINK_PREFIX}{hash}")
}

struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the file would do it too, but for the descriptor that it was cloned from.
        let _ = self.0.unlock();
    }
}

/// The machine's ends of sandbox links, of every plane.
#[must_use]
pub fn sandbox_links() -> Vec<String> {
    let names = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    names
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name.starts_with(LINK_PREFIX))
        .collect()
}

/// How many links have rules of their own in the packet filter, of every plane. To be called as root.
///
/// # Errors
/// The kernel cannot be asked.
pub fn links_with_rules() -> Result<usize, NetworkError> {
    let look = || filter::look(&mut Netlink::open(Family::Filter)?);
    look().map(|sight| sight.links.len()).map_err(NetworkError::Filter)
}
