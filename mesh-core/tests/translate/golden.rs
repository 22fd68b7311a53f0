//! Every `tests/golden/*.in.yaml` has a `.snap` of what the edge proxy gets from it, diagnostics included. A new file needs no
//! code: `INSTA_UPDATE=always cargo test -p mesh-core --test translate`, and read the difference.

use std::fmt::Write as _;
use std::path::Path;

use mesh_core::model::{
    Action, DestinationRef, HeaderOps, InboundPort, ListenerProtocol, Outbound, ResourceSet, Rule, WeightedDestination,
};
use mesh_core::translate::{Translation, translate};
use mesh_core::{api, world::World};

#[test]
fn golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".in.yaml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in names {
            let file = format!("{name}.in.yaml");
            let text = std::fs::read_to_string(folder.join(&file)).unwrap();
            let parsed = api::parse(&file, &text, "default");
            let mut shown = String::new();
            for diagnostic in &parsed.diagnostics {
                writeln!(shown, "{diagnostic}").unwrap();
            }
            show(&mut shown, &translate(&World::from_objects(parsed.objects), &super::ingress()));
            insta::assert_snapshot!(name, shown);
        }
    });
}

fn show(out: &mut String, translation: &Translation) {
    for diagnostic in &translation.diagnostics {
        writeln!(out, "{diagnostic}").unwrap();
    }
    let set = &translation.set;
    show_listeners(out, set);
    for (key, routes) in &set.routes {
        writeln!(out, "\nroutes {key}").unwrap();
        for route in &routes.tcp {
            let names: Vec<String> = route.sni.iter().map(ToString::to_string).collect();
            writeln!(out, "  tcp {} -> {:?}, from {}", names.join(", "), route.destinations, route.origin).unwrap();
        }
        for host in &routes.virtual_hosts {
            let redirect = if host.https_redirect { " -> https" } else { "" };
            let aliases: String = host.aliases.iter().map(|alias| format!(", {alias}")).collect();
            writeln!(out, "  host {}{aliases}{redirect}", host.host).unwrap();
            host.rules.iter().for_each(|rule| show_rule(out, rule));
        }
    }
    for (key, destination) in &set.destinations {
        writeln!(out, "\ndestination {key}").unwrap();
        let rule = destination.rule.as_ref().map_or_else(String::new, |rule| format!(", by {rule}"));
        writeln!(
            out,
            "  {:?}, {:?}, connect {:?}, idle {:?}, from {}{rule}",
            destination.protocol,
            destination.balancing,
            destination.connect_timeout,
            destination.idle_timeout,
            destination.origin
        )
        .unwrap();
        for endpoint in &set.endpoints[key].endpoints {
            let workload = endpoint.workload.as_ref().map_or_else(String::new, |workload| {
                format!(" {}/{} {} {}", workload.namespace, workload.name, workload.version, workload.principal)
            });
            writeln!(out, "  {} weight {}{workload}", endpoint.address, endpoint.weight).unwrap();
        }
    }
    for key in set.secrets.keys() {
        writeln!(out, "\nsecret {key}").unwrap();
    }
}

fn show_listeners(out: &mut String, set: &ResourceSet) {
    for (key, listener) in &set.listeners {
        write!(out, "\nlistener {key} (port {}, {:?})", listener.port, listener.path_normalization).unwrap();
        match &listener.protocol {
            ListenerProtocol::Http { routes } => writeln!(out, " http {routes}").unwrap(),
            ListenerProtocol::Tcp { routes } => writeln!(out, " tcp {routes}").unwrap(),
            ListenerProtocol::Tls { servers } => {
                writeln!(out, " tls").unwrap();
                for server in servers {
                    let hosts: Vec<String> = server.hosts.iter().map(ToString::to_string).collect();
                    let tls = &server.tls;
                    writeln!(
                        out,
                        "  {} -> {} {:?} {:?}..{:?}",
                        hosts.join(", "),
                        server.routes,
                        tls.certificates,
                        tls.min_version,
                        tls.max_version
                    )
                    .unwrap();
                }
            }
            ListenerProtocol::Outbound(outbound) => show_outbound(out, outbound),
            ListenerProtocol::Inbound(inbound) => {
                writeln!(out, " inbound").unwrap();
                let ports = inbound.ports.iter().map(|(number, port)| (number.to_string(), port));
                for (number, port) in ports.chain([("others".to_owned(), &inbound.others)]) {
                    let InboundPort { protocol, mtls, routes, destination, tls } = port;
                    let tls = if tls.is_some() { ", TLS ends" } else { "" };
                    writeln!(out, "  {number}: {protocol:?}, mTLS {mtls:?}{tls} -> {routes} else {destination}")
                        .unwrap();
                }
            }
        }
    }
}

fn show_outbound(out: &mut String, outbound: &Outbound) {
    writeln!(out, " outbound, unknown: {:?}", outbound.unknown).unwrap();
    for (port, http) in &outbound.http {
        let detect = if http.detect { " (detected)" } else { "" };
        writeln!(out, "  *:{port} http{detect} -> {}", http.routes).unwrap();
        for (named, routes) in &http.by_port {
            writeln!(out, "    for port {named} -> {routes}").unwrap();
        }
    }
    for tcp in &outbound.tcp {
        let networks: Vec<String> = tcp.networks.iter().map(ToString::to_string).collect();
        let networks = if networks.is_empty() { "*".to_owned() } else { networks.join(", ") };
        let sni: Vec<String> = tcp.sni.iter().map(ToString::to_string).collect();
        let sni = if sni.is_empty() { String::new() } else { format!(" sni {}", sni.join(", ")) };
        let routes = tcp.routes.as_ref().map_or_else(String::new, |routes| format!(" http {routes}, else"));
        write!(out, "  {networks}:{}{sni} ->{routes}", tcp.port).unwrap();
        for WeightedDestination { destination, weight } in &tcp.destinations {
            let (unknown, key) = match destination {
                DestinationRef::Known(key) => ("", key),
                DestinationRef::Unknown(key) => ("UNKNOWN ", key),
            };
            write!(out, " {unknown}{key} {weight}").unwrap();
        }
        writeln!(out, " ({})", tcp.origin).unwrap();
    }
}

fn show_rule(out: &mut String, rule: &Rule) {
    let name = rule.name.as_ref().map_or_else(String::new, |name| format!(" `{name}`"));
    let alternative = rule.source.r#match.map_or_else(String::new, |index| format!(" match {index}"));
    writeln!(out, "    {}{alternative}{name}: {}", rule.source, conditions(rule)).unwrap();
    show_headers(out, "      ", &rule.headers);
    match &*rule.action {
        Action::Redirect(redirect) => writeln!(out, "      {redirect:?}").unwrap(),
        Action::Respond(answer) => writeln!(out, "      {answer:?}").unwrap(),
        Action::Forward(forward) => {
            let (timeout, retry, rewrite) = (forward.timeout, &forward.retry, &forward.rewrite);
            writeln!(out, "      forward: timeout {timeout:?}, retries: {retry}, {rewrite:?}").unwrap();
            for split in &forward.splits {
                let (known, key) = match &split.destination {
                    DestinationRef::Known(key) => ("", key),
                    DestinationRef::Unknown(key) => ("UNKNOWN ", key),
                };
                writeln!(out, "      {} x {known}{key}", split.weight).unwrap();
                show_headers(out, "        ", &split.headers);
            }
            if let Some(fault) = &forward.fault {
                writeln!(out, "      {fault:?}").unwrap();
            }
            for mirror in &forward.mirrors {
                writeln!(out, "      {mirror:?}").unwrap();
            }
        }
    }
}

fn conditions(rule: &Rule) -> String {
    let predicate = &rule.predicate;
    let mut all = vec![format!("{:?}", predicate.path)];
    all.extend(predicate.method.iter().map(|value| format!("method {value:?}")));
    all.extend(predicate.scheme.iter().map(|value| format!("scheme {value:?}")));
    all.extend(predicate.authority.iter().map(|value| format!("authority {value:?}")));
    all.extend(
        predicate.headers.iter().map(|header| {
            format!("header {}{} {:?}", if header.invert { "not " } else { "" }, header.name, header.value)
        }),
    );
    all.extend(predicate.query.iter().map(|query| format!("query {} {:?}", query.name, query.value)));
    all.join(" and ")
}

fn show_headers(out: &mut String, indent: &str, headers: &HeaderOps) {
    for (side, op) in [("request", &headers.request), ("response", &headers.response)] {
        if !op.is_empty() {
            writeln!(out, "{indent}{side} remove {:?} set {:?} add {:?}", op.remove, op.set, op.add).unwrap();
        }
    }
}
