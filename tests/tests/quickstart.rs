//! `deploy/quickstart.sh` as a newcomer runs it, on ports that are free here.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use e2e::{ports, process};

fn quickstart() -> Command {
    let root = process::repository();
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut command = Command::new("bash");
    command.arg(root.join("deploy/quickstart.sh")).current_dir(root);
    command.env("MESHGATE_PROFILE", "dev").env("MESHGATE_LOOPBACK", ports::loopback_prefix().trim_end_matches('.'));
    for name in ["MESHGATE_HTTP_PORT", "MESHGATE_HTTPS_PORT", "MESHGATE_ADMIN_PORT", "MESHGATE_STATUS_PORT"] {
        command.env(name, ports::free_port(local).unwrap().to_string());
    }
    command
}

#[test]
fn the_page_comes_over_http_and_https_and_a_changed_rule_shows() {
    if !Path::new("/usr/bin/curl").exists() {
        e2e::say("skipped: no curl");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = quickstart().arg("--check").env("TMPDIR", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["black stars", "certificate verified", "red stars", "for him alone"] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
}

#[test]
fn a_port_in_use_is_named() {
    if !Path::new("/usr/bin/curl").exists() {
        e2e::say("skipped: no curl");
        return;
    }
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let output = quickstart().args(["--check", "--https-port", &port]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("port {port} is in use")), "{said}");
    assert!(said.contains("--https-port"), "{said}");
}
