//! Rows about redirection: a packet, and what the rules do with it. The rules are those that `redirect --dry-run` prints; they
//! are followed here as the kernel follows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub id: String,
    #[serde(default)]
    pub arguments: BTreeMap<String, serde_json::Value>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// `ipv4`, `ipv6`
    pub family: String,
    pub probe: String,
    /// `OUTPUT`, `PREROUTING`
    pub hook: String,
    pub packet: Packet,
    pub verdict: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Packet {
    pub proto: String,
    #[serde(default, rename = "in")]
    pub input: String,
    #[serde(default)]
    pub out: String,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub dport: u16,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub gid: String,
    #[serde(default)]
    pub state: String,
}

impl Case {
    /// As our flags. None: it needs what is not built.
    pub fn arguments(&self) -> Option<Vec<String>> {
        let ipv6 = self.arguments.get("EnableIPv6").and_then(|value| value.as_bool()).unwrap_or(false);
        let mut arguments = vec![format!("--dual-stack={ipv6}")];
        for (name, value) in &self.arguments {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let flag = match name.as_str() {
                "InboundPortsInclude" => "--istio-inbound-ports",
                "InboundPortsExclude" => "--istio-local-exclude-ports",
                "OutboundIPRangesInclude" => "--istio-service-cidr",
                "OutboundIPRangesExclude" => "--istio-service-exclude-cidr",
                "OutboundPortsInclude" => "--istio-outbound-ports",
                "OutboundPortsExclude" => "--istio-local-outbound-ports-exclude",
                "RerouteVirtualInterfaces" => "--kube-virt-interfaces",
                "ExcludeInterfaces" => "--istio-exclude-interfaces",
                "ProxyUID" => "--proxy-uid",
                "ProxyGID" => "--proxy-gid",
                "OwnerGroupsInclude" => "--outbound-owner-groups",
                "OwnerGroupsExclude" => "--outbound-owner-groups-exclude",
                "HostIPv4LoopbackCidr" => "--host-ipv4-loopback-cidr",
                "RedirectDNS" => "--redirect-dns",
                "DropInvalid" => "--drop-invalid",
                "CaptureAllDNS" => "--capture-all-dns",
                "DNSServersV4" | "DNSServersV6" => {
                    let servers: Vec<&str> = value.as_array()?.iter().filter_map(|server| server.as_str()).collect();
                    arguments.push(format!("--dns-servers={}", servers.join(",")));
                    continue;
                }
                "DryRun" | "EnableIPv6" => continue,
                _ => return None,
            };
            arguments.push(format!("{flag}={text}"));
        }
        // Resolvers are those of the case, not of this machine.
        if !self.arguments.keys().any(|name| name.starts_with("DNSServers")) {
            arguments.push("--dns-servers=".to_owned());
        }
        Some(arguments)
    }
}

/// What happens to the packet: `none`, `drop`, `redirect:PORT`.
pub fn verdict(printed: &str, row: &Row) -> String {
    let (v4, v6) = printed.split_once("# ip6tables-restore").unwrap_or((printed, ""));
    let rules = if row.family == "ipv6" { v6 } else { v4 };
    let mut tables = BTreeMap::<&str, Vec<Vec<&str>>>::new();
    let mut table = "";
    for line in rules.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            tables.entry(table).or_default().push(rule.split(' ').collect());
        }
    }
    let verdicts = ["raw", "mangle", "nat"].map(|table| {
        let rules = tables.get(table).map(Vec::as_slice).unwrap_or_default();
        follow(rules, &row.hook, &row.packet)
    });
    verdicts.into_iter().flatten().find(|verdict| verdict != "RETURN").unwrap_or_else(|| "none".to_owned())
}

/// None: nothing in the chain decides.
fn follow(rules: &[Vec<&str>], chain: &str, packet: &Packet) -> Option<String> {
    for rule in rules.iter().filter(|rule| rule.first() == Some(&chain)) {
        let Some((target, arguments)) = hits(rule.get(1..)?, packet) else { continue };
        match target {
            "RETURN" => return None,
            "DROP" => return Some("drop".to_owned()),
            "REDIRECT" => return arguments.get(1).map(|port| format!("redirect:{port}")),
            "CT" => {}
            other => {
                if let Some(verdict) = follow(rules, other, packet) {
                    return Some(verdict);
                }
            }
        }
    }
    None
}

/// The target with its arguments, if all conditions hold.
fn hits<'r>(words: &'r [&'r str], packet: &Packet) -> Option<(&'r str, &'r [&'r str])> {
    let mut rest = words;
    let mut not = false;
    loop {
        let (word, tail) = rest.split_first()?;
        rest = tail;
        if *word == "!" {
            not = true;
            continue;
        }
        let (value, tail) = rest.split_first()?;
        rest = tail;
        let holds = match *word {
            "-j" => return Some((value, rest)),
            "-m" => continue,
            "-i" => *value == packet.input,
            "-o" => *value == packet.out,
            "-s" => contains(value, packet.src),
            "-d" => contains(value, packet.dst),
            "-p" => *value == packet.proto,
            "--dport" | "--dports" => value.split(',').any(|port| port == packet.dport.to_string()),
            "--sport" => false,
            "--uid-owner" => *value == packet.uid,
            "--gid-owner" => *value == packet.gid,
            "--ctstate" => *value == packet.state,
            other => panic!("an option that is not known: {other}"),
        };
        if holds == not {
            return None;
        }
        not = false;
    }
}

fn contains(network: &str, address: IpAddr) -> bool {
    let (base, prefix) = network.split_once('/').unwrap_or((network, ""));
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let (Ok(base), (address, width)) = (base.parse().map(bits), bits(address)) else { return false };
    let prefix = prefix.parse().unwrap_or(width).min(128);
    let mask = if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) };
    base.1 == width && base.0 & mask == address & mask
}
