//! Rules as `iptables-restore --noflush` reads them, and what `iptables-save` tells of those that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::rules::{Chain, Match, Owner, PREFIX, Rule, Table, Verdict};

/// Chains of ours, and the jumps to them from the kernel's, as they are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present(BTreeMap<Table, Found>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    chains: BTreeSet<String>,
    /// As `iptables-save` writes them, without `-A `.
    jumps: Vec<String>,
}

const TABLES: [Table; 3] = [Table::Nat, Table::Mangle, Table::Raw];

impl Present {
    /// From the output of `iptables-save`.
    #[must_use]
    pub fn read(saved: &str) -> Present {
        let mut present = BTreeMap::<Table, Found>::new();
        let mut table = None;
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = TABLES.into_iter().find(|table| table_name(*table) == name);
            }
            let Some(table) = table else { continue };
            let mut words = line.split_whitespace();
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                if chain.starts_with(PREFIX) {
                    present.entry(table).or_default().chains.insert(chain.to_owned());
                }
            } else if words.next() == Some("-A")
                && words.next().is_some_and(|chain| !chain.starts_with(PREFIX))
                && words.skip_while(|word| *word != "-j").nth(1).is_some_and(|target| target.starts_with(PREFIX))
            {
                let rule = line.trim_start_matches("-A ").to_owned();
                present.entry(table).or_default().jumps.push(rule);
            }
        }
        Present(present)
    }
}

/// Input of `iptables-restore --noflush` that leaves these rules, and no others of ours, in force. Each table changes in
/// one step; naming a chain that is there empties it.
#[must_use]
pub fn script(present: &Present, rules: &[Rule]) -> String {
    let nothing = Found::default();
    let mut text = String::new();
    for table in TABLES {
        let found = present.0.get(&table).unwrap_or(&nothing);
        let wanted: Vec<&Rule> = rules.iter().filter(|rule| rule.table == table).collect();
        if wanted.is_empty() && *found == nothing {
            continue;
        }
        let chains: BTreeSet<&str> = wanted.iter().flat_map(|rule| chains_of(rule)).collect();
        let gone = || found.chains.iter().map(String::as_str).filter(|chain| !chains.contains(chain));
        let _ = writeln!(text, "*{}", table_name(table));
        for chain in chains.iter().copied().chain(gone()) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for jump in &found.jumps {
            let _ = writeln!(text, "-D {jump}");
        }
        for rule in wanted {
            let _ = writeln!(text, "{}", line(rule));
        }
        for chain in gone() {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Those of ours that a rule stands in or leads to.
fn chains_of(rule: &Rule) -> impl Iterator<Item = &'static str> {
    let stands = match rule.chain {
        Chain::Ours(name) => Some(name),
        Chain::Prerouting | Chain::Output => None,
    };
    let leads = match rule.verdict {
        Verdict::Jump(name) => Some(name),
        _ => None,
    };
    stands.into_iter().chain(leads)
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Nat => "nat",
        Table::Mangle => "mangle",
        Table::Raw => "raw",
    }
}

fn line(rule: &Rule) -> String {
    let chain = match rule.chain {
        Chain::Prerouting => "PREROUTING",
        Chain::Output => "OUTPUT",
        Chain::Ours(name) => name,
    };
    let mut words = vec![format!("-A {chain}")];
    words.extend(rule.matches.iter().map(condition));
    words.push(match rule.verdict {
        Verdict::Return => "-j RETURN".to_owned(),
        Verdict::Drop => "-j DROP".to_owned(),
        Verdict::Jump(chain) => format!("-j {chain}"),
        Verdict::To(port) => format!("-j REDIRECT --to-ports {port}"),
        Verdict::Zone(zone) => format!("-j CT --zone {zone}"),
    });
    words.join(" ")
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::In(interface) => format!("-i {interface}"),
        Match::Out(interface) => format!("-o {interface}"),
        Match::Source(network) => format!("-s {network}"),
        Match::Destination(network) => format!("-d {network}"),
        Match::NotDestination(network) => format!("! -d {network}"),
        Match::Tcp => "-p tcp".to_owned(),
        Match::Udp => "-p udp".to_owned(),
        Match::Port(port) => format!("--dport {port}"),
        Match::NotPorts(ports) => match ports.as_slice() {
            [port] => format!("! --dport {port}"),
            ports => format!("-m multiport ! --dports {}", join(ports)),
        },
        Match::SourcePort(port) => format!("--sport {port}"),
        Match::Owner(owner) => format!("-m owner {}", owner_option(owner)),
        Match::NotOwner(owner) => format!("-m owner ! {}", owner_option(owner)),
        Match::Invalid => "-m conntrack --ctstate INVALID".to_owned(),
    }
}

fn owner_option(owner: &Owner) -> String {
    match owner {
        Owner::Uid(uid) => format!("--uid-owner {uid}"),
        Owner::Gid(gid) => format!("--gid-owner {gid}"),
    }
}

pub(super) fn join(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}
