//! Flags of `redirect`, with the letters and names of `istio-iptables`, so that whatever calls that can call this.

use std::net::{IpAddr, Ipv4Addr};

use clap::{Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net};

use super::rules::{Dns, Groups, Ports, Ranges, Redirection};
use crate::sidecar::resolv_conf::{self, ResolvConf};

/// The addresses of the pod's interfaces, IPv6.
const IF_INET6: &str = "/proc/net/if_inet6";

/// Leads the pod's TCP connections through the sidecar: writes the rules of the network namespace that it runs in.
#[derive(Clone, Debug, Args)]
pub struct RedirectArgs {
    /// Port to which outbound connections are led.
    #[arg(short = 'p', long = "envoy-port", value_name = "PORT", default_value_t = 15001, env = "ENVOY_PORT")]
    pub outbound_port: u16,
    /// Port to which inbound connections are led.
    #[arg(short = 'z', long, value_name = "PORT", default_value_t = 15006, env = "INBOUND_CAPTURE_PORT")]
    pub inbound_capture_port: u16,
    /// Inbound port that is never touched: that of tunnels.
    #[arg(short = 'e', long, value_name = "PORT", default_value_t = 15008, env = "INBOUND_TUNNEL_PORT")]
    pub inbound_tunnel_port: u16,
    /// Users whose connections go where they want to: the sidecar's.
    #[arg(short = 'u', long, value_name = "UID,...", default_value = "1337", value_parser = parse_ids, env = "PROXY_UID")]
    pub proxy_uid: List<u32>,
    /// The same by group [default: as the users]
    #[arg(short = 'g', long, value_name = "GID,...", value_parser = parse_ids, env = "PROXY_GID")]
    pub proxy_gid: Option<List<u32>>,
    /// How inbound connections are led.
    #[arg(
        short = 'm',
        long = "istio-inbound-interception-mode",
        value_name = "MODE",
        default_value = "REDIRECT",
        env = "ISTIO_INBOUND_INTERCEPTION_MODE"
    )]
    pub mode: Mode,
    /// Inbound ports to capture: `*` or a list; empty: none.
    #[arg(short = 'b', long = "istio-inbound-ports", value_name = "PORT,...", default_value = "", value_parser = parse_ports, hide_default_value = true, env = "ISTIO_INBOUND_PORTS")]
    pub inbound_ports: Ports,
    /// With `-b '*'`: inbound ports to leave alone.
    #[arg(short = 'd', long = "istio-local-exclude-ports", value_name = "PORT,...", default_value = "", value_parser = parse_port_list, hide_default_value = true, env = "ISTIO_LOCAL_EXCLUDE_PORTS")]
    pub inbound_ports_excluded: List<u16>,
    /// Interfaces whose connections are left alone, in and out.
    #[arg(short = 'c', long = "istio-exclude-interfaces", value_name = "NAME,...", default_value = "", value_parser = parse_names, hide_default_value = true, env = "ISTIO_EXCLUDE_INTERFACES")]
    pub excluded_interfaces: List<String>,
    /// Outbound destinations to capture: `*` or networks; empty: none.
    #[arg(short = 'i', long = "istio-service-cidr", value_name = "CIDR,...", default_value = "", value_parser = parse_ranges, hide_default_value = true, env = "ISTIO_SERVICE_CIDR")]
    pub outbound_ranges: Ranges,
    /// Outbound destinations to leave alone.
    #[arg(short = 'x', long = "istio-service-exclude-cidr", value_name = "CIDR,...", default_value = "", value_parser = parse_networks, hide_default_value = true, env = "ISTIO_SERVICE_EXCLUDE_CIDR")]
    pub outbound_ranges_excluded: List<IpNet>,
    /// Outbound ports to capture whatever the destination is.
    #[arg(short = 'q', long = "istio-outbound-ports", value_name = "PORT,...", default_value = "", value_parser = parse_port_list, hide_default_value = true, env = "ISTIO_OUTBOUND_PORTS")]
    pub outbound_ports: List<u16>,
    /// Outbound ports to leave alone.
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude", value_name = "PORT,...", default_value = "", value_parser = parse_port_list, hide_default_value = true, env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE")]
    pub outbound_ports_excluded: List<u16>,
    /// Interfaces of virtual machines and inner containers: what comes in on them is outbound.
    #[arg(short = 'k', long = "kube-virt-interfaces", visible_alias = "reroute-virtual-interfaces", value_name = "NAME,...", default_value = "", value_parser = parse_names, hide_default_value = true, env = "KUBE_VIRT_INTERFACES")]
    pub rerouted_interfaces: List<String>,
    /// Only connections of these groups are captured; `*`: all.
    #[arg(long, value_name = "GROUP,...", default_value = "*", env = "ISTIO_OUTBOUND_OWNER_GROUPS")]
    pub outbound_owner_groups: String,
    /// Connections of these groups are not captured; counts only where all others are.
    #[arg(
        long,
        value_name = "GROUP,...",
        default_value = "",
        hide_default_value = true,
        env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"
    )]
    pub outbound_owner_groups_exclude: String,
    /// Lead the queries to the resolvers of /etc/resolv.conf to the sidecar.
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub redirect_dns: bool,
    /// With --redirect-dns: all queries, whoever they are for.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub capture_all_dns: bool,
    /// With --redirect-dns: queries to these resolvers [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS,...", value_parser = parse_addresses)]
    pub dns_servers: Option<List<IpAddr>>,
    /// Port to which queries are led.
    #[arg(long, value_name = "PORT", default_value_t = 15053)]
    pub dns_port: u16,
    /// Drop packets that belong to no connection, instead of letting the kernel reset what they look like.
    #[arg(long, env = "INVALID_DROP", value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub drop_invalid: bool,
    /// IPv4 destinations of the application that are itself.
    #[arg(long, value_name = "CIDR", default_value = "127.0.0.1/32", env = "HOST_IPV4_LOOPBACK_CIDR")]
    pub host_ipv4_loopback_cidr: Ipv4Net,
    /// Rules for IPv6 too [default: if an interface has an IPv6 address]
    #[arg(long, env = "ISTIO_DUAL_STACK", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub dual_stack: Option<bool>,
    /// Write the rules with `nft` [default: only where iptables is missing]
    #[arg(long, env = "NATIVE_NFTABLES", value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub native_nftables: bool,
    /// Take the rules away again.
    #[arg(long)]
    pub clean: bool,
    /// Print what would be done, and do nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Mode {
    Redirect,
}

/// `a,b`, also with spaces or a comma at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl RedirectArgs {
    /// What the flags and this network namespace say.
    pub fn redirection(&self) -> anyhow::Result<Redirection> {
        let dns = match (self.redirect_dns, self.capture_all_dns, &self.dns_servers) {
            (false, ..) => Dns::Leave,
            (true, true, _) => Dns::All,
            (true, false, Some(servers)) => Dns::Servers(servers.0.clone()),
            (true, false, None) => {
                let read = ResolvConf::read();
                let pod = read.map_err(|error| anyhow::anyhow!("--redirect-dns: {}: {error}", resolv_conf::PATH))?;
                Dns::Servers(pod.servers)
            }
        };
        Ok(Redirection {
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_capture_port,
            tunnel_port: self.inbound_tunnel_port,
            dns_port: self.dns_port,
            uids: self.proxy_uid.0.clone(),
            gids: self.proxy_gid.clone().unwrap_or_else(|| self.proxy_uid.clone()).0,
            inbound: self.inbound_ports.clone(),
            inbound_excluded: self.inbound_ports_excluded.0.clone(),
            outbound: self.outbound_ranges.clone(),
            outbound_excluded: self.outbound_ranges_excluded.0.clone(),
            outbound_ports: self.outbound_ports.0.clone(),
            outbound_ports_excluded: self.outbound_ports_excluded.0.clone(),
            rerouted_interfaces: self.rerouted_interfaces.0.clone(),
            excluded_interfaces: self.excluded_interfaces.0.clone(),
            groups: groups(&self.outbound_owner_groups, &self.outbound_owner_groups_exclude)?,
            dns,
            drop_invalid: self.drop_invalid,
            loopback: self.host_ipv4_loopback_cidr,
        })
    }

    /// Whether rules for IPv6 are needed.
    #[must_use]
    pub fn ipv6(&self) -> bool {
        self.dual_stack.unwrap_or_else(|| std::fs::read_to_string(IF_INET6).is_ok_and(|text| has_global(&text)))
    }
}

/// Lines `ADDRESS INDEX PREFIX SCOPE FLAGS NAME`, proc(5); scope 0 is global.
fn has_global(if_inet6: &str) -> bool {
    if_inet6.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields.as_slice(), [_, _, _, "00", _, name] if *name != "lo")
    })
}

fn groups(include: &str, exclude: &str) -> anyhow::Result<Groups> {
    let list = |flag: &str, text: &str| parse_names(text).map_err(|error| anyhow::anyhow!("{flag}: {error}"));
    if include.trim() != "*" {
        return Ok(Groups::Only(list("--outbound-owner-groups", include)?.0));
    }
    Ok(Groups::AllBut(list("--outbound-owner-groups-exclude", exclude)?.0))
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parse_ids(text: &str) -> Result<List<u32>, String> {
    let ids = items(text).map(|item| item.parse().map_err(|_| format!("`{item}` is not a numeric id")));
    Ok(List(ids.collect::<Result<_, _>>()?))
}

fn parse_port_list(text: &str) -> Result<List<u16>, String> {
    let port =
        |item: &str| item.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{item}` is not a port"));
    Ok(List(items(text).map(port).collect::<Result<_, _>>()?))
}

fn parse_ports(text: &str) -> Result<Ports, String> {
    if text.trim() == "*" { Ok(Ports::All) } else { parse_port_list(text).map(|list| Ports::Only(list.0)) }
}

fn parse_addresses(text: &str) -> Result<List<IpAddr>, String> {
    let address = |item: &str| item.parse().map_err(|_| format!("`{item}` is not an address"));
    Ok(List(items(text).map(address).collect::<Result<_, _>>()?))
}

fn parse_networks(text: &str) -> Result<List<IpNet>, String> {
    let network = |item: &str| {
        let address = || item.parse::<IpAddr>().map(IpNet::from).ok();
        item.parse::<IpNet>()
            .ok()
            .or_else(address)
            .map(|net| net.trunc())
            .ok_or_else(|| format!("`{item}` is not a network such as 10.0.0.0/8"))
    };
    Ok(List(items(text).map(network).collect::<Result<_, _>>()?))
}

fn parse_ranges(text: &str) -> Result<Ranges, String> {
    if text.trim() == "*" { Ok(Ranges::All) } else { parse_networks(text).map(|list| Ranges::Only(list.0)) }
}

/// Of interfaces and groups: they end up in rules, so nothing that means something there.
fn parse_names(text: &str) -> Result<List<String>, String> {
    let name = |item: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@' | '+');
        let fits = !item.starts_with('-') && item.chars().all(valid);
        if fits { Ok(item.to_owned()) } else { Err(format!("`{item}` is not a name")) }
    };
    Ok(List(items(text).map(name).collect::<Result<_, _>>()?))
}

/// As Istio's defaults.
impl Default for Redirection {
    fn default() -> Self {
        let loopback = Ipv4Net::from(Ipv4Addr::LOCALHOST);
        Redirection {
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            dns_port: 15053,
            uids: vec![1337],
            gids: vec![1337],
            inbound: Ports::Only(Vec::new()),
            inbound_excluded: Vec::new(),
            outbound: Ranges::Only(Vec::new()),
            outbound_excluded: Vec::new(),
            outbound_ports: Vec::new(),
            outbound_ports_excluded: Vec::new(),
            rerouted_interfaces: Vec::new(),
            excluded_interfaces: Vec::new(),
            groups: Groups::AllBut(Vec::new()),
            dns: Dns::Leave,
            drop_invalid: false,
            loopback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_lenient_about_commas_and_strict_about_items() {
        assert_eq!(parse_port_list("1, 2,,").unwrap().0, [1, 2]);
        assert_eq!(parse_ports("*").unwrap(), Ports::All);
        assert!(parse_port_list("0").is_err() && parse_port_list("x").is_err());
        assert_eq!(
            parse_networks("10.1.2.3/8,::1").unwrap().0,
            ["10.0.0.0/8".parse().unwrap(), "::1/128".parse::<IpNet>().unwrap()]
        );
        assert!(parse_networks("10.0.0.0/33").is_err());
        assert!(parse_names("eth0 -j ACCEPT").is_err() && parse_names("-j").is_err() && parse_names("a\nb").is_err());
    }

    #[test]
    fn only_a_global_address_of_a_real_interface_asks_for_ipv6() {
        let lo = "00000000000000000000000000000001 01 80 10 80 lo\n00000000000000000000000000000006 01 80 00 80 lo\n";
        let link = "fe800000000000000000000000000001 02 40 20 80 eth0\n";
        assert!(!has_global(&format!("{lo}{link}")));
        assert!(has_global(&format!("{lo}fd000000000000000000000000000001 02 40 00 80 eth0\n")));
    }
}
