//! `meshgate-sidecar redirect`: rules of a pod's network namespace that lead its TCP connections to the sidecar. `rules`
//! decides which, `iptables` and `nft` write them down, this file puts them in force.

mod iptables;
mod nft;
mod options;
mod rules;
#[cfg(test)]
mod rules_tests;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};

pub use options::RedirectArgs;
use rules::{Family, Rule};

use crate::exit;

/// The addresses of this namespace's interfaces, IPv6.
const IF_INET6: &str = "/proc/net/if_inet6";
/// `::6` of the interface `lo`, as `IF_INET6` has it.
const OWN_V6_LINE: &str = "00000000000000000000000000000006";

/// Puts the rules in force, or takes them away. Yields the exit code.
pub fn run(args: &RedirectArgs) -> anyhow::Result<u8> {
    let redirection = args.redirection()?;
    let families: &[Family] = if args.ipv6() { &[Family::V4, Family::V6] } else { &[Family::V4] };
    // What an earlier run left for IPv6 goes too.
    let families = if args.clean { &[Family::V4, Family::V6] } else { families };
    let backend = Backend::choose(args.native_nftables);
    for family in families {
        let rules = if args.clean { Vec::new() } else { redirection.rules(*family) };
        if args.dry_run {
            print(backend, *family, &rules)?;
            continue;
        }
        match backend.apply(*family, &rules) {
            // A machine without IPv6 has nothing of it to clean.
            Err(error) if args.clean && *family == Family::V6 => eprintln!("meshgate-sidecar: IPv6: {error:#}"),
            other => other?,
        }
        if *family == Family::V6 && !args.clean {
            own_address()?;
        }
    }
    Ok(exit::OK)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Iptables,
    Nft,
}

impl Backend {
    fn choose(nft: bool) -> Backend {
        let both = || ["iptables-restore", "iptables-save"].into_iter().all(is_installed);
        if nft || (!both() && is_installed("nft")) { Backend::Nft } else { Backend::Iptables }
    }

    fn script(self, family: Family, rules: &[Rule], present: &iptables::Present) -> String {
        match self {
            Backend::Iptables => iptables::script(present, rules),
            Backend::Nft => nft::script(family, rules),
        }
    }

    fn apply(self, family: Family, rules: &[Rule]) -> anyhow::Result<()> {
        let (save, restore) = match family {
            Family::V4 => ("iptables-save", "iptables-restore"),
            Family::V6 => ("ip6tables-save", "ip6tables-restore"),
        };
        let (command, present) = match self {
            Backend::Iptables => {
                let saved = call(Command::new(save), "")?;
                let present = iptables::Present::read(&String::from_utf8_lossy(&saved.stdout));
                let mut command = Command::new(restore);
                // Somebody else may be writing rules.
                command.args(["--noflush", "--wait"]);
                (command, present)
            }
            Backend::Nft => {
                let mut command = Command::new("nft");
                command.args(["-f", "-"]);
                (command, iptables::Present::default())
            }
        };
        let script = self.script(family, rules, &present);
        if !script.is_empty() {
            call(command, &script)?;
        }
        Ok(())
    }
}

/// What `--dry-run` shows: the rules as they would be written where there are none.
fn print(backend: Backend, family: Family, rules: &[Rule]) -> anyhow::Result<()> {
    let command = match (backend, family) {
        (Backend::Iptables, Family::V4) => "iptables-restore --noflush",
        (Backend::Iptables, Family::V6) => "ip6tables-restore --noflush",
        (Backend::Nft, _) => "nft -f -",
    };
    let mut out = std::io::stdout().lock();
    write!(out, "# {command}\n{}", backend.script(family, rules, &iptables::Present::default()))?;
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Runs a program to its end. An error names it, what it said and, for rules, what it was told.
fn call(mut command: Command, input: &str) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}: install iptables or nftables"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("{program} does not read its rules"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("{program} does not end"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let told = if input.is_empty() { String::new() } else { format!("; it was given:\n{input}") };
        bail!("{program} failed ({}): {}{told}", output.status, said.trim());
    }
    Ok(output)
}

/// IPv4 has all of 127.0.0.0/8 on the loopback; of IPv6 only `::1` is there. Without `::6` the sidecar could not reach its
/// workload over IPv6.
fn own_address() -> anyhow::Result<()> {
    let present = |path: &Path| {
        std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(OWN_V6_LINE)))
    };
    if present(Path::new(IF_INET6)) {
        return Ok(());
    }
    let mut command = Command::new("ip");
    command.args(["-6", "addr", "add", "::6/128", "dev", "lo"]);
    call(command, "").context("the address ::6, from which the workload is reached over IPv6")?;
    ensure!(present(Path::new(IF_INET6)), "the address ::6 was added to lo, and is not there");
    Ok(())
}
