//! Which packets are led where, for one IP family, in the order in which the kernel looks at them. As Istio's own rules do
//! (`istio-iptables`), with all rules in chains of our own: the kernel's chains get nothing but the jumps to them, so that
//! the same rules can be written again and taken away without a trace.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use mesh_core::model::{OWN_V4, OWN_V6};

/// What comes to the workload.
pub const INBOUND: &str = "ISTIO_INBOUND";
pub const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
pub const OUTPUT: &str = "ISTIO_OUTPUT";
pub const REDIRECT: &str = "ISTIO_REDIRECT";
pub const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";
pub const DROP: &str = "ISTIO_DROP";
/// What all chains of ours, and Istio's, begin with.
pub const PREFIX: &str = "ISTIO_";

const DNS: u16 = 53;

/// What is to be led through the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    pub outbound_port: u16,
    pub inbound_port: u16,
    /// Never captured.
    pub tunnel_port: u16,
    pub dns_port: u16,
    pub uids: Vec<u32>,
    pub gids: Vec<u32>,
    pub inbound: Ports,
    /// Only counts where all inbound ports are captured.
    pub inbound_excluded: Vec<u16>,
    pub outbound: Ranges,
    /// Comes before `outbound` and `outbound_ports`.
    pub outbound_excluded: Vec<IpNet>,
    pub outbound_ports: Vec<u16>,
    pub outbound_ports_excluded: Vec<u16>,
    pub rerouted_interfaces: Vec<String>,
    pub excluded_interfaces: Vec<String>,
    pub groups: Groups,
    pub dns: Dns,
    pub drop_invalid: bool,
    /// The application's own IPv4 addresses that are never captured.
    pub loopback: Ipv4Net,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    All,
    Only(Vec<u16>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    All,
    Only(Vec<IpNet>),
}

/// Whose outbound connections are captured, by group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    AllBut(Vec<String>),
    Only(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    Leave,
    All,
    /// Queries to these.
    Servers(Vec<IpAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Nat,
    Mangle,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    Prerouting,
    Output,
    Ours(&'static str),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub table: Table,
    pub chain: Chain,
    /// All of them must hold.
    pub matches: Vec<Match>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    In(String),
    Out(String),
    Source(IpNet),
    Destination(IpNet),
    NotDestination(IpNet),
    Tcp,
    Udp,
    /// TCP or UDP must be said before.
    Port(u16),
    /// One, or several.
    NotPorts(Vec<u16>),
    SourcePort(u16),
    Owner(Owner),
    NotOwner(Owner),
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Uid(u32),
    /// Number or name.
    Gid(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Return,
    Drop,
    Jump(&'static str),
    /// To a port of this machine.
    To(u16),
    /// Connections are tracked apart from those of other zones.
    Zone(u16),
}

impl Redirection {
    /// The rules of a family.
    #[must_use]
    pub fn rules(&self, family: Family) -> Vec<Rule> {
        let mut writer = Writer { rules: Vec::new(), redirection: self, family };
        writer.drop_invalid();
        writer.inbound();
        writer.redirects();
        writer.outbound();
        writer.dns_zones();
        writer.rules
    }

    fn captures_dns(&self) -> bool {
        match &self.dns {
            Dns::Leave => false,
            Dns::All => true,
            Dns::Servers(servers) => !servers.is_empty(),
        }
    }

    fn owners(&self) -> Vec<Owner> {
        let uids = self.uids.iter().map(|uid| Owner::Uid(*uid));
        uids.chain(self.gids.iter().map(|gid| Owner::Gid(gid.to_string()))).collect()
    }
}

struct Writer<'a> {
    rules: Vec<Rule>,
    redirection: &'a Redirection,
    family: Family,
}

impl Writer<'_> {
    fn add(&mut self, table: Table, chain: Chain, matches: Vec<Match>, verdict: Verdict) {
        self.rules.push(Rule { table, chain, matches, verdict });
    }

    fn nat(&mut self, chain: &'static str, matches: Vec<Match>, verdict: Verdict) {
        self.add(Table::Nat, Chain::Ours(chain), matches, verdict);
    }

    fn is_mine(&self, address: IpAddr) -> bool {
        address.is_ipv4() == (self.family == Family::V4)
    }

    fn mine(&self, networks: &[IpNet]) -> Vec<IpNet> {
        networks.iter().filter(|network| self.is_mine(network.addr())).copied().collect()
    }

    fn loopback(&self) -> IpNet {
        match self.family {
            Family::V4 => self.redirection.loopback.trunc().into(),
            Family::V6 => IpAddr::from(Ipv6Addr::LOCALHOST).into(),
        }
    }

    fn own(&self) -> IpNet {
        match self.family {
            Family::V4 => IpAddr::from(OWN_V4).into(),
            Family::V6 => IpAddr::from(OWN_V6).into(),
        }
    }

    fn drop_invalid(&mut self) {
        if self.redirection.drop_invalid {
            self.add(Table::Mangle, Chain::Prerouting, Vec::new(), Verdict::Jump(DROP));
            self.add(Table::Mangle, Chain::Ours(DROP), vec![Match::Invalid], Verdict::Drop);
        }
    }

    fn inbound(&mut self) {
        let redirection = self.redirection;
        let captures = redirection.inbound != Ports::Only(Vec::new());
        if captures || !redirection.rerouted_interfaces.is_empty() {
            self.add(Table::Nat, Chain::Prerouting, vec![Match::Tcp], Verdict::Jump(INBOUND));
        }
        for interface in &redirection.excluded_interfaces {
            self.nat(INBOUND, vec![Match::In(interface.clone())], Verdict::Return);
        }
        for interface in &redirection.rerouted_interfaces {
            let from = || Match::In(interface.clone());
            match &redirection.outbound {
                Ranges::All => self.nat(INBOUND, vec![from()], Verdict::Jump(REDIRECT)),
                Ranges::Only(networks) => {
                    for network in self.mine(networks) {
                        self.nat(INBOUND, vec![from(), Match::Destination(network)], Verdict::Jump(REDIRECT));
                    }
                }
            }
            self.nat(INBOUND, vec![from()], Verdict::Return);
        }
        self.nat(INBOUND, vec![Match::Tcp, Match::Port(redirection.tunnel_port)], Verdict::Return);
        match &redirection.inbound {
            Ports::All => {
                for port in &redirection.inbound_excluded {
                    self.nat(INBOUND, vec![Match::Tcp, Match::Port(*port)], Verdict::Return);
                }
                self.nat(INBOUND, vec![Match::Tcp], Verdict::Jump(IN_REDIRECT));
            }
            Ports::Only(ports) => {
                for port in ports {
                    self.nat(INBOUND, vec![Match::Tcp, Match::Port(*port)], Verdict::Jump(IN_REDIRECT));
                }
            }
        }
    }

    fn redirects(&mut self) {
        let (outbound, inbound) = (self.redirection.outbound_port, self.redirection.inbound_port);
        self.nat(REDIRECT, vec![Match::Tcp], Verdict::To(outbound));
        self.nat(IN_REDIRECT, vec![Match::Tcp], Verdict::To(inbound));
    }

    fn outbound(&mut self) {
        let redirection = self.redirection;
        self.add(Table::Nat, Chain::Output, Vec::new(), Verdict::Jump(OUTPUT));
        for interface in &redirection.excluded_interfaces {
            self.nat(OUTPUT, vec![Match::Out(interface.clone())], Verdict::Return);
        }
        for port in &redirection.outbound_ports_excluded {
            for protocol in [Match::Tcp, Match::Udp] {
                self.nat(OUTPUT, vec![protocol, Match::Port(*port)], Verdict::Return);
            }
        }
        self.nat(OUTPUT, vec![lo(), Match::Source(self.own())], Verdict::Return);
        for owner in redirection.owners() {
            self.proxy(&owner);
        }
        self.groups();
        self.dns();
        self.nat(OUTPUT, vec![Match::Destination(self.loopback())], Verdict::Return);
        for network in self.mine(&redirection.outbound_excluded) {
            self.nat(OUTPUT, vec![Match::Destination(network)], Verdict::Return);
        }
        for port in &redirection.outbound_ports {
            self.nat(OUTPUT, vec![Match::Tcp, Match::Port(*port)], Verdict::Jump(REDIRECT));
        }
        match &redirection.outbound {
            Ranges::All => self.nat(OUTPUT, Vec::new(), Verdict::Jump(REDIRECT)),
            Ranges::Only(networks) => {
                for network in self.mine(networks) {
                    self.nat(OUTPUT, vec![Match::Destination(network)], Verdict::Jump(REDIRECT));
                }
            }
        }
    }

    /// The sidecar calls its own pod: through the inbound rules, as any other client. The application calls itself:
    /// directly. Everything else of the sidecar goes where it wants to.
    fn proxy(&mut self, owner: &Owner) {
        let redirection = self.redirection;
        let mut untouched = vec![redirection.tunnel_port];
        let mut direct = vec![lo()];
        if redirection.captures_dns() {
            // A query that the sidecar passes on to a resolver of this pod; and one of the application, which is ours.
            untouched.insert(0, DNS);
            direct.extend([Match::Tcp, Match::NotPorts(vec![DNS])]);
        }
        let to_itself = vec![
            lo(),
            Match::NotDestination(self.loopback()),
            Match::Tcp,
            Match::NotPorts(untouched),
            Match::Owner(owner.clone()),
        ];
        self.nat(OUTPUT, to_itself, Verdict::Jump(IN_REDIRECT));
        let captures_loopback = match &redirection.outbound {
            Ranges::All => false,
            Ranges::Only(networks) => networks.iter().any(|network| network.addr().is_loopback()),
        };
        if !captures_loopback {
            direct.push(Match::NotOwner(owner.clone()));
            self.nat(OUTPUT, direct, Verdict::Return);
        }
        self.nat(OUTPUT, vec![Match::Owner(owner.clone())], Verdict::Return);
    }

    fn groups(&mut self) {
        match &self.redirection.groups {
            Groups::AllBut(groups) => {
                for group in groups {
                    self.nat(OUTPUT, vec![Match::Owner(Owner::Gid(group.clone()))], Verdict::Return);
                }
            }
            Groups::Only(groups) => {
                let others = groups.iter().map(|group| Match::NotOwner(Owner::Gid(group.clone()))).collect();
                self.nat(OUTPUT, others, Verdict::Return);
            }
        }
    }

    /// Resolvers of this family; one without an address stands for all of them.
    fn resolvers(&self) -> Vec<Option<IpNet>> {
        match &self.redirection.dns {
            Dns::Leave => Vec::new(),
            Dns::All => vec![None],
            Dns::Servers(servers) => {
                servers.iter().filter(|server| self.is_mine(**server)).map(|server| Some((*server).into())).collect()
            }
        }
    }

    fn dns(&mut self) {
        let resolvers = self.resolvers();
        if resolvers.is_empty() {
            return;
        }
        let port = self.redirection.dns_port;
        self.nat(OUTPUT, Vec::new(), Verdict::Jump(OUTPUT_DNS));
        for protocol in [Match::Tcp, Match::Udp] {
            for resolver in &resolvers {
                let mut query = vec![protocol.clone(), Match::Port(DNS)];
                query.extend(resolver.map(Match::Destination));
                self.nat(OUTPUT_DNS, query, Verdict::To(port));
            }
        }
    }

    /// A query of the application and the one that the sidecar sends on because of it look alike to the kernel, address
    /// and port: they are tracked apart, else the answers of one of them are lost now and then.
    fn dns_zones(&mut self) {
        const PASSED_ON: Verdict = Verdict::Zone(1);
        const CAPTURED: Verdict = Verdict::Zone(2);
        let resolvers = self.resolvers();
        if resolvers.is_empty() {
            return;
        }
        let (raw, queries, answers) = (Table::Raw, Chain::Ours(OUTPUT_DNS), Chain::Ours(INBOUND));
        self.add(raw, Chain::Output, Vec::new(), Verdict::Jump(OUTPUT_DNS));
        self.add(raw, Chain::Prerouting, Vec::new(), Verdict::Jump(INBOUND));
        for owner in self.redirection.owners() {
            let port = self.redirection.dns_port;
            self.add(raw, queries, vec![Match::Udp, Match::Port(DNS), Match::Owner(owner.clone())], PASSED_ON);
            self.add(raw, queries, vec![Match::Udp, Match::SourcePort(port), Match::Owner(owner)], CAPTURED);
        }
        for resolver in resolvers {
            let mut query = vec![Match::Udp, Match::Port(DNS)];
            query.extend(resolver.map(Match::Destination));
            self.add(raw, queries, query, CAPTURED);
            let mut answer = vec![Match::Udp, Match::SourcePort(DNS)];
            answer.extend(resolver.map(Match::Source));
            self.add(raw, answers, answer, PASSED_ON);
        }
    }
}

fn lo() -> Match {
    Match::Out("lo".to_owned())
}
