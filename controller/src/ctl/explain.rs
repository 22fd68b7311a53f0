//! `meshctl explain`: where a request would go, and why. A running gateway is asked for what it really serves; else the
//! tables are made here, of the cluster's objects or of files.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use mesh_core::diag::{self, Verdict};
use mesh_core::model::{AuthoritySource, CertificateSource, ClientDemand, ListenerProtocol, TlsServer};
use mesh_core::snapshot::{ExplainedAuthorization, ExplainedDestination, Explanation, Question};

use super::cluster::{ClusterArgs, GATEWAY_ADMIN, Target};
use super::exit::{self, Failure};
use super::output::Output;
use super::picture::{self, Depth, GatewayArgs, Picture, Sources};

#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// http://host/path or https://host:port/path?query
    #[arg(value_name = "URL")]
    url: String,
    /// Ask this gateway what it serves: POD[.NS] or deploy/NAME[.NS]
    #[arg(long, value_name = "POD[.NS]", conflicts_with_all = ["files", "use_kube"])]
    proxy: Option<Target>,
    /// Look at these files or directories, and not at the cluster; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE", action = clap::ArgAction::Append)]
    files: Vec<PathBuf>,
    /// With files: look at the cluster too, as if they were applied to it.
    #[arg(long, requires = "files")]
    use_kube: bool,
    /// A header of the request: NAME=VALUE or NAME:VALUE
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Server name of the TLS handshake [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// A name in the certificate that the client shows: spiffe://… or a DNS name
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Where the connection comes from, for policies and limits (`ipBlocks`, `source.ip`)
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<IpAddr>,
    /// The client's address, as proxies in front say it (`remoteIpBlocks`, `remote.ip`) [default: that of --source-ip]
    #[arg(long, value_name = "ADDRESS")]
    remote_ip: Option<IpAddr>,
    /// A claim of the request's token, which is taken to be good: NAME=VALUE or [a][b]=VALUE; again for a list
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// Key of the listener, where the port of the URL does not say which.
    #[arg(long, value_name = "ADDR:PORT")]
    listener: Option<String>,
    /// For names without one: of the pod, or of objects in files [default: default]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub async fn run(cluster: &ClusterArgs, args: &ExplainArgs) -> anyhow::Result<u8> {
    let question = question(args)?;
    let (explanation, picture) = match &args.proxy {
        Some(target) => (ask(cluster, target, args).await?, None),
        None => {
            let sources = Sources {
                files: &args.files,
                cluster,
                use_cluster: args.files.is_empty() || args.use_kube,
                default_namespace: args.namespace.as_deref().unwrap_or("default"),
            };
            let picture = picture::take(&sources, &args.gateway, Depth::Tables).await?;
            (drawn(&question, &picture)?, Some(picture))
        }
    };
    if let Some(picture) = &picture {
        // What has no effect sends no request anywhere.
        picture.unavailable.iter().filter(|kind| kind.is_read).for_each(|kind| eprintln!("meshctl: {kind}"));
        picture.assumed.iter().for_each(|note| eprintln!("meshctl: {note}"));
        picture.unreadable().for_each(|diagnostic| eprintln!("meshctl: {diagnostic}"));
        if picture.objects.is_empty() && picture.unreadable().next().is_some() {
            return Ok(exit::BAD_DATA);
        }
    }
    let request = format!("{} {}", args.method, args.url);
    super::print(&args.output.render(&explanation, || text(&request, &explanation))?)?;
    if let Some(picture) = &picture {
        listened(&explanation, picture).iter().for_each(|note| eprintln!("meshctl: {note}"));
        hint(picture);
        if diag::verdict(&picture.diagnostics) == Verdict::BadData {
            return Ok(exit::BAD_DATA);
        }
    }
    Ok(match is_served(&explanation) {
        true => exit::OK,
        // What is not found may be among what could not be seen.
        false if picture.as_ref().is_some_and(Picture::is_partial) => exit::FAILURE,
        false => exit::FOUND_PROBLEMS,
    })
}

/// What tables that were made here say.
fn drawn(question: &Question, picture: &Picture) -> Result<Explanation, Failure> {
    let mut explanation = question.ask(&picture.snapshot).map_err(usage)?;
    explanation.count_endpoints(|key| {
        let needed = picture.set.destinations.get(key).is_none_or(|destination| destination.reach.needs_endpoints());
        needed.then(|| picture.set.endpoints.get(key).map_or(0, |found| found.endpoints.len()))
    });
    // Where secrets cannot be seen it is not known what is missing.
    let seen = !picture.unavailable.iter().any(|unavailable| unavailable.kind == "secrets");
    explanation.note_unready(|key| {
        let secret = picture.set.destinations.get(key)?.tls.secret()?;
        (seen && !picture.set.secrets.contains_key(secret)).then(|| format!("there is no usable secret {secret}"))
    });
    if lacks_certificate(&explanation, picture) {
        let Explanation { generation, listener, server, .. } = explanation;
        let outcome = "no certificate".into();
        return Ok(Explanation { generation, listener, server, outcome, ..Explanation::default() });
    }
    Ok(explanation)
}

/// Whether the handshake fails, for the server of the listener has nothing to show. Where secrets cannot be seen that is not known.
fn lacks_certificate(explanation: &Explanation, picture: &Picture) -> bool {
    let Some(ListenerProtocol::Tls { servers }) =
        picture.set.listeners.get(&*explanation.listener).map(|listener| &listener.protocol)
    else {
        return false;
    };
    let called =
        |server: &&TlsServer| explanation.server == Some(format!("{}[{}]", server.origin, server.server_index));
    let is_there = |source: &CertificateSource| match source {
        CertificateSource::Secret(key) | CertificateSource::Issued { secret: key, .. } => {
            picture.set.secrets.get(key).is_some_and(|secret| !secret.certificate_pem.is_empty())
        }
        CertificateSource::Files { .. } | CertificateSource::Ordered(_) => true,
    };
    let blind = picture.unavailable.iter().any(|unavailable| unavailable.kind == "secrets");
    !blind && servers.iter().find(called).is_some_and(|server| !server.tls.certificates.iter().any(is_there))
}

/// Where somebody listens, for who asked elsewhere.
fn listened(explanation: &Explanation, picture: &Picture) -> Option<String> {
    if explanation.outcome != "no listener" {
        return None;
    }
    let listeners = picture.set.listeners.values().map(|listener| {
        let scheme = match &listener.protocol {
            ListenerProtocol::Tls { .. } => "https",
            ListenerProtocol::Tcp { .. } => "tcp",
            _ => "http",
        };
        match (listener.port, listener.address.port()) {
            (port, inside) if port == inside => format!("{scheme} on {port}"),
            (port, inside) => format!("{scheme} on {port} ({inside} inside the pod)"),
        }
    });
    let listeners: Vec<String> = listeners.collect();
    Some(match listeners.is_empty() {
        true => "no Gateway opens a port here".to_owned(),
        false => format!("the gateway listens for {}", listeners.join(", ")),
    })
}

/// The answer may be what it is because something is wrong.
fn hint(picture: &Picture) {
    let errors = picture.diagnostics.iter().filter(|diagnostic| diagnostic.severity == diag::Severity::Error).count();
    if errors > 0 {
        eprintln!(
            "meshctl: the objects have {errors} error{}; see meshctl analyze",
            if errors == 1 { "" } else { "s" }
        );
    }
}

fn usage(error: mesh_core::snapshot::QuestionError) -> Failure {
    Failure::Usage(error.to_string())
}

fn question(args: &ExplainArgs) -> Result<Question, Failure> {
    let mut question = Question::new(&args.url).map_err(usage)?;
    for line in &args.headers {
        question.header(&header(line)).map_err(usage)?;
    }
    question.method.clone_from(&args.method);
    question.sni.clone_from(&args.sni);
    question.client.clone_from(&args.client);
    (question.source, question.remote) = (args.source_ip, args.remote_ip);
    args.claims.iter().try_for_each(|line| question.claim(line)).map_err(usage)?;
    question.listener.clone_from(&args.listener);
    Ok(question)
}

/// `NAME=VALUE` or `NAME: VALUE`: whichever sign comes first, for names have neither.
fn header(line: &str) -> String {
    match line.find(['=', ':']) {
        Some(at) => format!("{}:{}", line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default()),
        None => line.to_owned(),
    }
}

async fn ask(cluster: &ClusterArgs, target: &Target, args: &ExplainArgs) -> anyhow::Result<Explanation> {
    let cluster = cluster.connect().await?;
    let pod = cluster.find(target, args.namespace.as_deref()).await?;
    let body = cluster.page(&pod, GATEWAY_ADMIN, &page(args)).await?;
    serde_json::from_slice(&body).with_context(|| format!("{pod}: what it answers is not understood"))
}

/// As the gateway's page wants it.
fn page(args: &ExplainArgs) -> String {
    let mut query = vec![("url", args.url.clone()), ("method", args.method.clone())];
    query.extend(args.headers.iter().map(|line| ("header", header(line))));
    query.extend(args.sni.iter().map(|name| ("sni", name.clone())));
    query.extend(args.client.iter().map(|name| ("client", name.clone())));
    query.extend(args.source_ip.iter().map(|address| ("source", address.to_string())));
    query.extend(args.remote_ip.iter().map(|address| ("remote", address.to_string())));
    query.extend(args.claims.iter().map(|line| ("claim", line.clone())));
    query.extend(args.listener.iter().map(|key| ("listener", key.clone())));
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("/explain?{}", pairs.join("&"))
}

/// Everything but unreserved characters (RFC 3986).
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Whether the request gets an answer that somebody wanted, whichever destination it hits.
fn is_served(explanation: &Explanation) -> bool {
    let lost = matches!(
        &*explanation.outcome,
        "no listener" | "no server" | "no certificate" | "no host" | "no route" | "no tcp route"
    );
    let takes =
        |one: &ExplainedDestination| one.known && one.refused.is_none() && one.unready.is_none() || one.weight == 0;
    !lost && explanation.destinations.iter().all(takes)
}

fn text(request: &str, explanation: &Explanation) -> String {
    let mut out = format!("{request}\n\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<12}{value}");
    };
    let none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    line("Listener", &none(&explanation.listener));
    if let Some(server) = &explanation.server {
        line("Server", server);
    }
    if let Some(demand) = &explanation.clients {
        line("Clients", &clients(demand));
    }
    if let Some(routes) = &explanation.routes {
        line("Routes", routes);
    }
    if let Some(host) = &explanation.host {
        line("Host", host);
    }
    let mut name = "Rules";
    if explanation.omitted > 0 {
        line(name, &format!("… {} more, whose path is another", explanation.omitted));
        name = "";
    }
    for rule in &explanation.rules {
        let alternative = rule.r#match.map_or_else(String::new, |index| format!(" match[{index}]"));
        let called = rule.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let verdict = match &rule.failed {
            _ if rule.matched => "matches".to_owned(),
            Some(failed) => format!("wants {failed}"),
            None => "does not match".to_owned(),
        };
        let sign = if rule.matched { '✓' } else { '✗' };
        line(name, &format!("{sign} {}{alternative}{called}: {verdict}", rule.rule));
        name = "";
    }
    line("Outcome", &outcome(explanation));
    if let Some(authorization) = &explanation.authorization {
        line("Policies", &policies(authorization));
    }
    let mut name = "Limits";
    for limit in &explanation.rate_limits {
        let open = depends(&limit.depends_on).map_or_else(String::new, |what| format!(" — whether it counts {what}"));
        line(name, &format!("{}: {}{open}", limit.limit, limit.amount));
        name = "";
    }
    for (name, value) in [("Path", &explanation.rewritten_path), ("Authority", &explanation.rewritten_authority)] {
        if let Some(value) = value {
            line(name, &format!("rewritten to {value}"));
        }
    }
    let mut name = "To";
    for destination in destinations(explanation) {
        line(name, &destination);
        name = "";
    }
    for fault in &explanation.faults {
        line("Fault", fault);
    }
    if let Some(retries) = &explanation.retries {
        line("Retries", retries);
    }
    if let Some(cors) = &explanation.cors {
        line("CORS", cors);
    }
    for mirror in &explanation.mirrors {
        let state = if mirror.known { "" } else { " — unknown: nothing is sent" };
        line("Copies", &format!("{} {}{state}", mirror.share, mirror.cluster));
    }
    out
}

/// With the share that each gets.
fn destinations(explanation: &Explanation) -> Vec<String> {
    let total: u64 = explanation.destinations.iter().map(|destination| u64::from(destination.weight)).sum();
    let lines = explanation.destinations.iter().map(|destination| {
        let share = (f64::from(destination.weight) * 100.0 / (total.max(1) as f64)).round();
        let mut state = match (destination.known, destination.endpoints) {
            (false, _) => " — unknown: 503".to_owned(),
            (true, _) if destination.unready.is_some() => {
                format!(" — no TLS, {}: 503", destination.unready.as_deref().unwrap_or_default())
            }
            (true, Some(0)) => " — no endpoints: 503".to_owned(),
            (true, Some(1)) => " — 1 endpoint".to_owned(),
            (true, Some(count)) => format!(" — {count} endpoints"),
            // It needs none, or a gateway is older.
            (true, None) => String::new(),
        };
        if let Some(why) = &destination.refused {
            state = format!(" — {why}: 503");
        }
        let notes: String = destination.notes.iter().map(|note| format!(", {note}")).collect();
        format!("{share:>3} % {}{state}{notes}", destination.cluster)
    });
    lines.collect()
}

/// What they must show.
fn clients(demand: &ClientDemand) -> String {
    let mut said = if demand.optional { "may show a certificate" } else { "must show a certificate" }.to_owned();
    match &demand.authorities {
        _ if demand.unverified => said.push_str(", whoever signed it"),
        Some(AuthoritySource::Secret(key)) => said.push_str(&format!(" of a CA in secret {key}")),
        Some(AuthoritySource::Files { certificates, .. }) => said.push_str(&format!(" of a CA in {certificates}")),
        None => said.push_str(", and no CA is there: the handshake fails; see meshctl analyze"),
    }
    if !demand.names.is_empty() {
        said.push_str(&format!(", for one of the names {}", demand.names.join(", ")));
    }
    if !(demand.certificate_hashes.is_empty() && demand.key_hashes.is_empty()) {
        said.push_str(", with one of the hashes that are listed");
    }
    said
}

/// On what an answer hangs that was not told.
fn depends(on: &[Cow<'static, str>]) -> Option<String> {
    let is_client = |name: &str| matches!(name, "source.ip" | "remote.ip");
    let whose = match on {
        [] => return None,
        _ if on.iter().all(|name| is_client(name)) => "the client's address",
        _ => "addresses",
    };
    let hint = if on.iter().any(|name| name == "source.ip") { "--source-ip" } else { "--source-ip or --remote-ip" };
    let hint = if on.iter().any(|name| is_client(name)) { format!("; tell it by {hint}") } else { String::new() };
    Some(format!("depends on {whose} ({}{hint})", on.join(", ")))
}

fn policies(said: &ExplainedAuthorization) -> String {
    let observers: Vec<String> = said.without_effect.iter().map(ToString::to_string).collect();
    let observers =
        if observers.is_empty() { String::new() } else { format!("; without effect: {}", observers.join(", ")) };
    if let Some(open) = depends(&said.depends_on) {
        let policy = said.policy.as_ref().map_or_else(String::new, |policy| format!(": {policy}"));
        let rule = said.rule.map_or_else(String::new, |rule| format!(" rules[{rule}]"));
        return format!("whether they allow it {open}{policy}{rule}{observers}");
    }
    let verdict = match (&said.policy, said.rule) {
        _ if said.allowed => "allow it".to_owned(),
        (Some(policy), Some(rule)) => format!("deny it (403): {policy} rules[{rule}]"),
        _ => "deny it (403): none of those that allow things allows this".to_owned(),
    };
    let first = said.asks.as_ref().map_or_else(String::new, |provider| format!("ask `{provider}`, then "));
    format!("{first}{verdict}{observers}")
}

fn outcome(explanation: &Explanation) -> String {
    let why = match &*explanation.outcome {
        "no listener" => " (nothing listens for this scheme and port)",
        "no server" => " (no server of the listener has this name: the handshake fails)",
        "no certificate" => " (the server of this name has none: the handshake fails; see meshctl analyze)",
        "no host" => " (404: no virtual host for this name)",
        "no route" => " (404: no rule matches)",
        "no tcp route" => " (no rule is for it: the connection is closed)",
        _ => "",
    };
    let rule = explanation.rule.as_ref().map_or_else(String::new, |rule| format!(" by {rule}"));
    let status = explanation.status.map_or_else(String::new, |status| format!(" {status}"));
    let location = explanation.location.as_ref().map_or_else(String::new, |location| format!(" to {location}"));
    format!("{}{status}{location}{rule}{why}", explanation.outcome)
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
