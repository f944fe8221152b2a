//! Whether a sandbox may reach a destination, and why not. Pure.

use std::net::Ipv4Addr;

use crate::name::HostName;
use crate::policy::{allows, is_tcp, reaches_outside};
use crate::ranges::RangeSet;
use crate::snapshot::{ActiveAllow, SandboxPolicy};

/// What allows a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A rule by name or address.
    Rule(Box<ActiveAllow>),
    /// Network policies, if the address that is dialled is among theirs.
    NetworkPolicy,
}

impl Grant {
    /// Where it is written.
    #[must_use]
    pub fn rule(&self) -> &str {
        match self {
            Self::Rule(active) => &active.rule,
            Self::NetworkPolicy => "networkpolicy",
        }
    }
}

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule has the name.
    #[error("no rule allows the name {0}")]
    Name(HostName),
    /// No rule has the name with this port.
    #[error("no rule allows port {1} of {0}")]
    Port(HostName, u16),
    /// No rule has the address.
    #[error("no rule allows {0}:{1}")]
    Address(Ipv4Addr, u16),
    /// A rule has it, and nobody granted it now.
    #[error("{0} needs an approval that is not given now")]
    NotGranted(HostName),
    /// The name has an address that no name may have.
    #[error("{0} has the address {1}, which is private, link-local or this machine's")]
    Unsafe(HostName, Ipv4Addr),
    /// Nobody knows the name.
    #[error("{0} has no address")]
    NoAddress(HostName),
    /// Nothing was sent that says where to.
    #[error("the connection says nothing about the host that it is for")]
    Unnamed,
    /// The name within the connection is another.
    #[error("the connection is for {expected}, and says {found}")]
    Mismatch {
        /// What was asked of the resolver, or by `CONNECT`.
        expected: String,
        /// What SNI, `Host` or the request's target says.
        found: String,
    },
    /// A greeting of TLS that is refused.
    #[error(transparent)]
    Hello(crate::hello::Refused),
    /// Neither TLS nor HTTP.
    #[error("only TLS and HTTP are allowed to {0}")]
    Protocol(HostName),
    /// A request that the rule does not have.
    #[error("no rule allows {method} {path} at {name}")]
    Request {
        /// The host.
        name: HostName,
        /// The method.
        method: String,
        /// The path, without its query.
        path: String,
    },
    /// A request that can be read in two ways.
    #[error("the request is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// A credential that is not the brokered one.
    #[error("the request brings a credential of its own in {0}: at this host only the brokered one is sent")]
    ForeignCredential(String),
    /// A credential would go over the wire in the clear.
    #[error("a credential for {0} goes only over TLS")]
    ClearCredential(HostName),
    /// The brokered credential cannot be had.
    #[error("the credential for {0} is missing")]
    NoCredential(HostName),
    /// The other side does not answer, or not as it must.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// Too many at once.
    #[error("the sandbox has too many connections")]
    TooMany,
    /// What allowed it was taken back.
    #[error("the rule that allowed it was taken back")]
    Revoked,
    /// The client is too slow in saying what it wants.
    #[error("the connection did not say in time what it wants")]
    TooSlow,
}

/// Whether the name may be reached at a port.
///
/// # Errors
/// Why not.
pub fn by_name(policy: &SandboxPolicy, name: &HostName, port: u16) -> Result<Grant, Refusal> {
    let named: Vec<&ActiveAllow> = policy.allow.iter().filter(|active| is_named(active, name)).collect();
    let here = || named.iter().filter(|active| active.allow.ports.contains(&port));
    // The one with more to say wins: a brokered credential is not left out because a wider rule stands before it.
    if let Some(active) = here().filter(|active| active.granted).max_by_key(|active| active.allow.is_about_requests()) {
        return Ok(Grant::Rule(Box::new((*active).clone())));
    }
    if policy_reaches_outside(policy, port) {
        return Ok(Grant::NetworkPolicy);
    }
    if here().next().is_some() {
        return Err(Refusal::NotGranted(name.clone()));
    }
    Err(if named.is_empty() { Refusal::Name(name.clone()) } else { Refusal::Port(name.clone(), port) })
}

/// Whether an address may be reached at a port without a name.
///
/// # Errors
/// Why not.
pub fn by_address(
    policy: &SandboxPolicy,
    permitted: &RangeSet,
    address: Ipv4Addr,
    port: u16,
) -> Result<Grant, Refusal> {
    let listed = |active: &&ActiveAllow| {
        let within = active.allow.address.as_deref().and_then(|text| RangeSet::parse(text).ok());
        within.is_some_and(|range| range.contains(address)) && active.allow.ports.contains(&port) && active.granted
    };
    if let Some(active) = policy.allow.iter().find(listed).filter(|_| permitted.contains(address)) {
        return Ok(Grant::Rule(Box::new(active.clone())));
    }
    if allows(&policy.egress, address, port) {
        return Ok(Grant::NetworkPolicy);
    }
    Err(Refusal::Address(address, port))
}

/// Those of a name's addresses that may be dialled.
///
/// # Errors
/// There is none, or not one that may.
pub fn verified(
    policy: &SandboxPolicy,
    grant: &Grant,
    permitted: &RangeSet,
    name: &HostName,
    port: u16,
    addresses: &[Ipv4Addr],
) -> Result<Vec<Ipv4Addr>, Refusal> {
    let first = *addresses.first().ok_or_else(|| Refusal::NoAddress(name.clone()))?;
    let good: Vec<Ipv4Addr> = match grant {
        Grant::Rule(_) => addresses.iter().copied().filter(|address| permitted.contains(*address)).collect(),
        Grant::NetworkPolicy => {
            addresses.iter().copied().filter(|address| allows(&policy.egress, *address, port)).collect()
        }
    };
    match (good.is_empty(), grant) {
        (false, _) => Ok(good),
        (true, Grant::Rule(_)) => Err(Refusal::Unsafe(name.clone(), first)),
        (true, Grant::NetworkPolicy) => Err(Refusal::Name(name.clone())),
    }
}

/// Whether the resolver tells of a name.
#[must_use]
pub fn is_told(policy: &SandboxPolicy, name: &HostName) -> bool {
    policy.allow.iter().any(|active| is_named(active, name))
        || policy.egress.iter().any(|rule| is_tcp(rule) && reaches_outside(rule))
}

fn is_named(active: &ActiveAllow, name: &HostName) -> bool {
    active.allow.name.as_ref().is_some_and(|pattern| pattern.matches(name))
}

fn policy_reaches_outside(policy: &SandboxPolicy, port: u16) -> bool {
    policy.egress.iter().any(|rule| {
        let with_port =
            rule.ports.is_empty() || rule.ports.iter().any(|range| (range.first..=range.last).contains(&port));
        is_tcp(rule) && with_port && reaches_outside(rule)
    })
}

/// The one command that would allow what was refused, where there is one.
#[must_use]
pub fn command(policy: &SandboxPolicy, port: u16, refusal: &Refusal) -> Option<String> {
    let scope = match &policy.template {
        Some(template) => format!("--namespace {} --template {template}", policy.namespace),
        None => format!("--namespace {}", policy.namespace),
    };
    let with_port = |host: &str| if port == 443 || port == 0 { host.to_owned() } else { format!("{host}:{port}") };
    match refusal {
        Refusal::Name(name) | Refusal::Port(name, _) => {
            Some(format!("atoll egress allow {} {scope}", with_port(name.as_str())))
        }
        Refusal::Address(address, port) => Some(format!("atoll egress allow {address}:{port} {scope}")),
        Refusal::Unsafe(_, address) => Some(format!("atoll egress floor {address}")),
        Refusal::NotGranted(name) => {
            Some(format!("atoll egress grant {name} --namespace {} --sandbox {}", policy.namespace, policy.name))
        }
        Refusal::Protocol(name) => Some(format!("atoll egress allow {} {scope} --raw", with_port(name.as_str()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use atoll_sandbox::network::rules::{NetworkRule, PortRange, Protocol};

    use super::*;
    use crate::rules::RuleSet;

    fn policy(allow: &str, egress: &[&str]) -> SandboxPolicy {
        let rules = RuleSet::parse(&format!("allow: [{allow}]")).expect("rules");
        let active = |(place, allow): (usize, crate::rules::Allow)| ActiveAllow {
            rule: format!("r#{place}"),
            granted: !allow.on_approval,
            allow,
            credential: None,
        };
        let rule = |text: &&str| NetworkRule {
            addresses: RangeSet::parse(text).expect("a network").to_rules(),
            protocol: Some(Protocol::Tcp),
            ports: vec![PortRange { first: 443, last: 443 }],
        };
        SandboxPolicy {
            namespace: "team".to_owned(),
            name: "box".to_owned(),
            allow: rules.allow.into_iter().enumerate().map(active).collect(),
            egress: egress.iter().map(rule).collect(),
            ..SandboxPolicy::default()
        }
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text).expect("a name")
    }

    #[test]
    fn names_are_allowed_with_their_ports() {
        let policy = policy(
            "{name: a.example}, {name: '*.b.example', ports: [80, 443]}, {name: c.example, onApproval: true}",
            &[],
        );
        for (host, port, expected) in [
            ("a.example", 443, Ok("r#0")),
            ("a.example", 80, Err(Refusal::Port(name("a.example"), 80))),
            ("x.b.example", 80, Ok("r#1")),
            ("b.example", 443, Err(Refusal::Name(name("b.example")))),
            ("c.example", 443, Err(Refusal::NotGranted(name("c.example")))),
        ] {
            let found = by_name(&policy, &name(host), port);
            assert_eq!(found.as_ref().map(Grant::rule), expected.as_ref().copied(), "{host}:{port}");
        }
        assert!(is_told(&policy, &name("a.example")) && !is_told(&policy, &name("d.example")));
    }

    #[test]
    fn a_name_below_a_network_policy_is_judged_by_its_address() {
        let policy = policy("", &["8.8.0.0/16"]);
        let grant = by_name(&policy, &name("dns.example"), 443).expect("maybe");
        assert!(is_told(&policy, &name("dns.example")));
        let judged = |address: [u8; 4]| {
            verified(&policy, &grant, &RangeSet::all(), &name("dns.example"), 443, &[address.into()])
        };
        assert!(judged([8, 8, 8, 8]).is_ok() && judged([9, 9, 9, 9]).is_err());
        assert!(by_name(&policy, &name("dns.example"), 80).is_err());
        let sandboxes_only = super::tests::policy("", &["10.201.0.5/32"]);
        assert!(
            by_name(&sandboxes_only, &name("dns.example"), 443).is_err()
                && !is_told(&sandboxes_only, &name("x.example"))
        );
    }

    #[test]
    fn only_verified_addresses_are_dialled() {
        let policy = policy("{name: a.example}", &[]);
        let grant = by_name(&policy, &name("a.example"), 443).expect("allowed");
        let permitted = crate::floor::Floor::default().permitted_for_names();
        let judged = |addresses: &[[u8; 4]]| {
            let addresses: Vec<Ipv4Addr> = addresses.iter().copied().map(Ipv4Addr::from).collect();
            verified(&policy, &grant, &permitted, &name("a.example"), 443, &addresses)
        };
        assert_eq!(judged(&[[8, 8, 8, 8]]), Ok(vec![Ipv4Addr::new(8, 8, 8, 8)]));
        assert_eq!(judged(&[[169, 254, 169, 254], [8, 8, 8, 8]]), Ok(vec![Ipv4Addr::new(8, 8, 8, 8)]));
        for bad in [[169, 254, 169, 254], [127, 0, 0, 1], [10, 0, 0, 1], [10, 201, 0, 9], [198, 18, 0, 1], [0, 0, 0, 0]]
        {
            assert_eq!(judged(&[bad]), Err(Refusal::Unsafe(name("a.example"), bad.into())));
        }
        assert_eq!(judged(&[]), Err(Refusal::NoAddress(name("a.example"))));
    }

    #[test]
    fn addresses_are_allowed_by_rule_or_policy() {
        let policy =
            policy("{address: 203.0.114.7, ports: [5432]}, {address: 169.254.169.254, ports: [80]}", &["8.8.8.8/32"]);
        let permitted = crate::floor::Floor::default().permitted_for_names();
        let judged = |address: [u8; 4], port| {
            by_address(&policy, &permitted, address.into(), port).map(|grant| grant.rule().to_owned())
        };
        assert_eq!(judged([203, 0, 114, 7], 5432), Ok("r#0".to_owned()));
        assert_eq!(judged([8, 8, 8, 8], 443), Ok("networkpolicy".to_owned()));
        for (address, port) in
            [([203, 0, 114, 7], 80), ([203, 0, 114, 8], 5432), ([169, 254, 169, 254], 80), ([8, 8, 8, 8], 80)]
        {
            assert_eq!(judged(address, port), Err(Refusal::Address(address.into(), port)));
        }
    }

    #[test]
    fn a_refusal_tells_the_command_that_lifts_it() {
        let mut policy = policy("", &[]);
        for (refusal, port, expected) in [
            (Refusal::Name(name("a.example")), 443, "atoll egress allow a.example --namespace team"),
            (Refusal::Port(name("a.example"), 80), 80, "atoll egress allow a.example:80 --namespace team"),
            (Refusal::Address([8, 8, 8, 8].into(), 53), 53, "atoll egress allow 8.8.8.8:53 --namespace team"),
            (Refusal::Unsafe(name("a.example"), [10, 0, 0, 1].into()), 443, "atoll egress floor 10.0.0.1"),
        ] {
            assert_eq!(command(&policy, port, &refusal).as_deref(), Some(expected));
        }
        policy.template = Some("python".to_owned());
        let told = command(&policy, 443, &Refusal::Name(name("a.example")));
        assert_eq!(told.as_deref(), Some("atoll egress allow a.example --namespace team --template python"));
    }
}
