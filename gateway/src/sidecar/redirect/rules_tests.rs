use clap::Parser;

use super::iptables::{Present, script};
use super::options::RedirectArgs;
use super::rules::{Dns, Family, Redirection};
use super::{iptables, nft};

/// What the injected init container says.
const INJECTED: &[&str] = &[
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
];

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: RedirectArgs,
}

fn args(arguments: &[&str]) -> RedirectArgs {
    Cli::try_parse_from(["redirect"].iter().chain(arguments)).unwrap().args
}

fn redirection(arguments: &[&str]) -> Redirection {
    args(arguments).redirection().unwrap()
}

fn rules(arguments: &[&str], family: Family) -> String {
    iptables::script(&Present::default(), &redirection(arguments).rules(family))
}

/// The rules of one chain, without its name.
fn chain<'a>(script: &'a str, chain: &str) -> Vec<&'a str> {
    script.lines().filter_map(|line| line.strip_prefix("-A ")?.strip_prefix(chain)?.strip_prefix(' ')).collect()
}

#[test]
fn as_istio_has_them_by_default() {
    assert_eq!(
        rules(INJECTED, Family::V4),
        "*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
"
    );
}

#[test]
fn ipv6_has_its_own_addresses() {
    let script = rules(&["-i", "2001:db8::/32,10.0.0.0/8", "-x", "10.1.0.0/16,2001:db8:1::/48"], Family::V6);
    assert_eq!(
        chain(&script, "ISTIO_OUTPUT"),
        [
            "-o lo -s ::6/128 -j RETURN",
            "-o lo ! -d ::1/128 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
            "-o lo -m owner ! --uid-owner 1337 -j RETURN",
            "-m owner --uid-owner 1337 -j RETURN",
            "-o lo ! -d ::1/128 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT",
            "-o lo -m owner ! --gid-owner 1337 -j RETURN",
            "-m owner --gid-owner 1337 -j RETURN",
            "-d ::1/128 -j RETURN",
            "-d 2001:db8:1::/48 -j RETURN",
            "-d 2001:db8::/32 -j ISTIO_REDIRECT",
        ]
    );
}

#[test]
fn nothing_is_captured_where_nothing_is_said() {
    let script = rules(&[], Family::V4);
    assert!(!script.contains("-A PREROUTING"), "{script}");
    assert_eq!(chain(&script, "ISTIO_OUTPUT").last(), Some(&"-d 127.0.0.1/32 -j RETURN"));
}

#[test]
fn ports_are_excluded_before_anything_else_and_included_before_networks() {
    let script = rules(&["-o", "3306,", "-q", "31000", "-i", "10.0.0.0/8", "-b", "80,81", "-d", "80"], Family::V4);
    let output = chain(&script, "ISTIO_OUTPUT");
    assert_eq!(output[..2], ["-p tcp --dport 3306 -j RETURN", "-p udp --dport 3306 -j RETURN"]);
    assert_eq!(
        output[output.len() - 2..],
        ["-p tcp --dport 31000 -j ISTIO_REDIRECT", "-d 10.0.0.0/8 -j ISTIO_REDIRECT"]
    );
    // What is excluded counts only where all are included.
    assert_eq!(
        chain(&script, "ISTIO_INBOUND")[1..],
        ["-p tcp --dport 80 -j ISTIO_IN_REDIRECT", "-p tcp --dport 81 -j ISTIO_IN_REDIRECT"]
    );
}

#[test]
fn interfaces_come_first() {
    let script = rules(&["-c", "eth9", "-k", "eth1,eth2", "-i", "10.0.0.0/8"], Family::V4);
    assert_eq!(
        chain(&script, "ISTIO_INBOUND"),
        [
            "-i eth9 -j RETURN",
            "-i eth1 -d 10.0.0.0/8 -j ISTIO_REDIRECT",
            "-i eth1 -j RETURN",
            "-i eth2 -d 10.0.0.0/8 -j ISTIO_REDIRECT",
            "-i eth2 -j RETURN",
            "-p tcp --dport 15008 -j RETURN",
        ]
    );
    assert_eq!(chain(&script, "ISTIO_OUTPUT")[0], "-o eth9 -j RETURN");
}

#[test]
fn a_captured_loopback_range_is_captured() {
    let script = rules(&["-i", "127.1.2.3/32"], Family::V4);
    assert!(!script.contains("! --uid-owner"), "{script}");
}

#[test]
fn groups_are_chosen_or_left_out() {
    let except = rules(&["--outbound-owner-groups-exclude", "888,ftp"], Family::V4);
    assert!(
        except.contains("-m owner --gid-owner 888 -j RETURN\n-A ISTIO_OUTPUT -m owner --gid-owner ftp -j RETURN\n")
    );
    let only = rules(&["--outbound-owner-groups", "java,202"], Family::V4);
    assert!(only.contains("-A ISTIO_OUTPUT -m owner ! --gid-owner java -m owner ! --gid-owner 202 -j RETURN\n"));
}

#[test]
fn queries_are_captured_and_tracked_apart() {
    let servers = ["10.96.0.10", "fd00::a"].map(|server| server.parse().unwrap()).to_vec();
    let redirection = Redirection { dns: Dns::Servers(servers), ..redirection(INJECTED) };
    let script = script(&Present::default(), &redirection.rules(Family::V4));
    assert_eq!(
        chain(&script, "ISTIO_OUTPUT_DNS"),
        [
            "-p tcp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053",
            "-p udp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053",
            "-p udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1",
            "-p udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2",
            "-p udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1",
            "-p udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2",
            "-p udp --dport 53 -d 10.96.0.10/32 -j CT --zone 2",
        ]
    );
    assert!(script.contains("-A ISTIO_INBOUND -p udp --sport 53 -s 10.96.0.10/32 -j CT --zone 1\n"));
    let output = chain(&script, "ISTIO_OUTPUT");
    assert_eq!(
        output[1..3],
        [
            "-o lo ! -d 127.0.0.1/32 -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
            "-o lo -p tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN",
        ]
    );
    // Before what is said of the loopback, where the resolver may be.
    let jump = output.iter().position(|rule| *rule == "-j ISTIO_OUTPUT_DNS").unwrap();
    assert_eq!(output[jump + 1], "-d 127.0.0.1/32 -j RETURN");
}

#[test]
fn what_is_there_is_replaced() {
    let saved = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_OLD - [0:0]
-A PREROUTING -j DOCKER\n-A PREROUTING -p tcp -j ISTIO_INBOUND\n-A OUTPUT -j ISTIO_OUTPUT\n-A ISTIO_OUTPUT -j ISTIO_OLD\nCOMMIT
*mangle\n:ISTIO_DROP - [0:0]\n-A PREROUTING -j ISTIO_DROP\nCOMMIT\n";
    let present = Present::read(saved);
    let script = iptables::script(&present, &redirection(INJECTED).rules(Family::V4));
    let (nat, mangle) = script.split_once("*mangle\n").unwrap();
    assert!(nat.starts_with("*nat\n:ISTIO_INBOUND - [0:0]\n"), "{nat}");
    assert!(
        nat.contains(":ISTIO_OLD - [0:0]\n-D PREROUTING -p tcp -j ISTIO_INBOUND\n-D OUTPUT -j ISTIO_OUTPUT\n-A "),
        "{nat}"
    );
    assert!(nat.ends_with("-j ISTIO_REDIRECT\n-X ISTIO_OLD\nCOMMIT\n"), "{nat}");
    assert_eq!(mangle, ":ISTIO_DROP - [0:0]\n-D PREROUTING -j ISTIO_DROP\n-X ISTIO_DROP\nCOMMIT\n");
    let foreign = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DOCKER\nCOMMIT\n";
    assert_eq!(Present::read(foreign), Present::default());
}

#[test]
fn nft_says_the_same() {
    let redirection = Redirection { drop_invalid: true, dns: Dns::All, ..redirection(INJECTED) };
    insta::assert_snapshot!(nft::script(Family::V6, &redirection.rules(Family::V6)));
    assert_eq!(nft::script(Family::V4, &[]), "add table ip meshgate\ndelete table ip meshgate\n");
}

#[test]
fn flags_have_the_names_that_istio_gives_them() {
    let long = args(&[
        "--envoy-port=1",
        "--inbound-capture-port=2",
        "--inbound-tunnel-port=3",
        "--proxy-uid=4,5",
        "--proxy-gid=6",
        "--istio-inbound-interception-mode=REDIRECT",
        "--istio-inbound-ports=*",
        "--istio-local-exclude-ports=7",
        "--istio-service-cidr=*",
        "--istio-service-exclude-cidr=10.0.0.1",
        "--istio-outbound-ports=8",
        "--istio-local-outbound-ports-exclude=9",
        "--kube-virt-interfaces=a",
        "--istio-exclude-interfaces=b",
        "--drop-invalid",
        "--capture-all-dns",
        "--redirect-dns",
        "--dry-run",
    ]);
    let short = args(&[
        "-p1",
        "-z2",
        "-e3",
        "-u4,5",
        "-g6",
        "-mREDIRECT",
        "-b*",
        "-d7",
        "-i*",
        "-x10.0.0.1/32",
        "-q8",
        "-o9",
        "-ka",
        "-cb",
        "--drop-invalid=true",
        "--capture-all-dns=true",
        "--redirect-dns=true",
        "-n",
    ]);
    assert_eq!(long.redirection().unwrap(), short.redirection().unwrap());
    // Of users and groups those that are not said are the same.
    assert_eq!(redirection(&["-u", "3,4"]).gids, [3, 4]);
    let refused = Cli::try_parse_from(["redirect", "-m", "TPROXY"]).unwrap_err().to_string();
    assert!(refused.contains("REDIRECT"), "{refused}");
}
