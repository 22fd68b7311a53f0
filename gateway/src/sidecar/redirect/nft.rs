//! The same rules for `nft -f`, for machines without iptables: a table of our own per family, replaced as a whole.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::iptables::join;
use super::rules::{Chain, Family, Match, Owner, Rule, Table, Verdict};

/// Of each family.
const NAME: &str = "meshgate";

/// Input of `nft -f` that leaves these rules, and no others of ours, in force, in one step.
#[must_use]
pub fn script(family: Family, rules: &[Rule]) -> String {
    let family_name = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    // A table that is not there cannot be deleted; adding one that is there changes nothing.
    let mut text = format!("add table {family_name} {NAME}\ndelete table {family_name} {NAME}\n");
    if rules.is_empty() {
        return text;
    }
    let places: BTreeSet<(Table, Chain)> = rules.iter().map(|rule| (rule.table, rule.chain)).collect();
    let targets = rules.iter().filter_map(|rule| match rule.verdict {
        Verdict::Jump(chain) => Some((rule.table, Chain::Ours(chain))),
        _ => None,
    });
    let places: BTreeSet<(Table, Chain)> = places.into_iter().chain(targets).collect();
    let _ = writeln!(text, "table {family_name} {NAME} {{");
    // Chains must be there before a rule leads to them.
    for (table, chain) in &places {
        let _ = writeln!(text, "  chain {} {{{}}}", name(*table, *chain), hook(*table, *chain));
    }
    text.push_str("}\n");
    for rule in rules {
        let conditions: String = conditions(family_name, &rule.matches);
        let verdict = verdict(rule);
        let _ = writeln!(text, "add rule {family_name} {NAME} {} {conditions}{verdict}", name(rule.table, rule.chain));
    }
    text
}

/// Tables of iptables are kept apart by the names of the chains.
fn name(table: Table, chain: Chain) -> String {
    let table = match table {
        Table::Nat => "nat",
        Table::Mangle => "mangle",
        Table::Raw => "raw",
    };
    match chain {
        Chain::Prerouting => format!("{table}_prerouting"),
        Chain::Output => format!("{table}_output"),
        Chain::Ours(name) => format!("{table}_{}", name.to_ascii_lowercase()),
    }
}

/// Kind, hook and priority of a chain that the kernel calls.
fn hook(table: Table, chain: Chain) -> String {
    let hook = match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        Chain::Ours(_) => return String::new(),
    };
    // As iptables has them: the names of nft's priorities are not the same in every hook.
    let (kind, priority) = match table {
        Table::Nat => ("nat", -100),
        Table::Mangle => ("filter", -150),
        Table::Raw => ("filter", -300),
    };
    format!(" type {kind} hook {hook} priority {priority}; policy accept; ")
}

fn conditions(family: &str, matches: &[Match]) -> String {
    let udp = matches.contains(&Match::Udp);
    let transport = if udp { "udp" } else { "tcp" };
    let mut text = String::new();
    for condition in matches {
        let condition = match condition {
            Match::In(interface) => format!("iifname \"{interface}\""),
            Match::Out(interface) => format!("oifname \"{interface}\""),
            Match::Source(network) => format!("{family} saddr {network}"),
            Match::Destination(network) => format!("{family} daddr {network}"),
            Match::NotDestination(network) => format!("{family} daddr != {network}"),
            Match::Tcp => "meta l4proto tcp".to_owned(),
            Match::Udp => "meta l4proto udp".to_owned(),
            Match::Port(port) => format!("{transport} dport {port}"),
            Match::NotPorts(ports) => match ports.as_slice() {
                [port] => format!("{transport} dport != {port}"),
                ports => format!("{transport} dport != {{ {} }}", join(ports)),
            },
            Match::SourcePort(port) => format!("{transport} sport {port}"),
            Match::Owner(Owner::Uid(uid)) => format!("meta skuid {uid}"),
            Match::Owner(Owner::Gid(gid)) => format!("meta skgid {}", group(gid)),
            Match::NotOwner(Owner::Uid(uid)) => format!("meta skuid != {uid}"),
            Match::NotOwner(Owner::Gid(gid)) => format!("meta skgid != {}", group(gid)),
            Match::Invalid => "ct state invalid".to_owned(),
        };
        text.push_str(&condition);
        text.push(' ');
    }
    text
}

fn group(gid: &str) -> String {
    if gid.bytes().all(|byte| byte.is_ascii_digit()) { gid.to_owned() } else { format!("\"{gid}\"") }
}

fn verdict(rule: &Rule) -> String {
    match rule.verdict {
        Verdict::Return => "return".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Jump(chain) => format!("jump {}", name(rule.table, Chain::Ours(chain))),
        Verdict::To(port) => format!("redirect to :{port}"),
        Verdict::Zone(zone) => format!("ct zone set {zone}"),
    }
}
