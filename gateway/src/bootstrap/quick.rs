//! `--to` without any file: what it means as objects, which are a user's as any others.

use std::net::{IpAddr, SocketAddr};

use mesh_core::api::ACME;

/// Server of `--to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Quick<'a> {
    pub to: &'a Target,
    /// Hosts that are served; empty: all.
    pub hosts: &'a [String],
    pub http: SocketAddr,
    /// Where TLS ends, with certificates that are ordered; what comes to `http` is sent there.
    pub https: Option<SocketAddr>,
}

impl Quick<'_> {
    /// A Gateway, a VirtualService and a ServiceEntry, as a user would write them.
    #[must_use]
    pub fn objects(&self) -> String {
        let (hosts, annotations) = (self.host_list(), self.annotations());
        let service = "upstream.meshgate.internal";
        let resolution = if self.to.host.parse::<IpAddr>().is_ok() { "STATIC" } else { "DNS" };
        format!(
            r#"apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: quick, namespace: default{annotations} }}
spec:
  servers:
{servers}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: quick, namespace: default }}
spec:
  hosts: [{hosts}]
  gateways: [quick]
  http:
{redirect}  - route:
    - destination: {{ host: {service}, port: {{ number: {target_port} }} }}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: quick, namespace: default }}
spec:
  hosts: [{service}]
  location: MESH_EXTERNAL
  resolution: {resolution}
  ports:
  - {{ number: {target_port}, name: http, protocol: HTTP }}
  endpoints:
  - address: "{target_host}"
"#,
            servers = self.servers(&hosts),
            redirect = self.redirect(),
            target_port = self.to.port,
            target_host = self.to.host,
        )
    }

    fn host_list(&self) -> String {
        let quoted: Vec<String> = self.hosts.iter().map(|host| format!("\"{host}\"")).collect();
        if quoted.is_empty() { "\"*\"".to_owned() } else { quoted.join(", ") }
    }

    fn annotations(&self) -> String {
        self.https.map(|_| format!(", annotations: {{ {ACME}: \"true\" }}")).unwrap_or_default()
    }

    fn servers(&self, hosts: &str) -> String {
        let mut servers = server(self.http, "http", hosts);
        if self.redirects_all() {
            servers.push_str("    tls: { httpsRedirect: true }\n");
        }
        if let Some(https) = self.https {
            servers.push_str(&server(https, "https", hosts));
            servers.push_str("    tls: { mode: SIMPLE, credentialName: quick }\n");
        }
        servers
    }

    /// `httpsRedirect` leaves the port as it is, which is right for the usual ones alone.
    fn redirects_all(&self) -> bool {
        self.https.is_some_and(|https| (self.http.port(), https.port()) == (80, 443))
    }

    fn redirect(&self) -> String {
        match self.https.filter(|_| !self.redirects_all()) {
            None => String::new(),
            Some(https) => format!(
                "  - match: [{{ port: {} }}]\n    redirect: {{ scheme: https, port: {} }}\n",
                self.http.port(),
                https.port()
            ),
        }
    }
}

fn server(listen: SocketAddr, name: &str, hosts: &str) -> String {
    let bind = if listen.ip().is_unspecified() { String::new() } else { format!("    bind: \"{}\"\n", listen.ip()) };
    let (port, protocol) = (listen.port(), name.to_uppercase());
    format!("  - port: {{ number: {port}, name: {name}, protocol: {protocol} }}\n{bind}    hosts: [{hosts}]\n")
}

pub(super) fn parse_target(text: &str) -> Result<Target, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let name = rest.split('/').next().filter(|name| !name.is_empty()).unwrap_or("app.example");
        let (port, more) = match scheme {
            "https" => (":443", "; that TLS is spoken to it takes files, with a DestinationRule"),
            _ => (":80", ""),
        };
        let port = if name.contains(':') { "" } else { port };
        return Err(format!("`{text}` is a URL; write HOST:PORT, `{name}{port}`{more}"));
    }
    let wrong = || format!("`{text}` is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(valid) {
        return Err(wrong());
    }
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(Target { host: host.to_owned(), port })
}

/// A name, or an address, for which a certificate can be had.
pub(super) fn parse_domain(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("one of the names is empty: there is a comma too many".to_owned());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let name = rest.split(['/', ':']).next().filter(|name| !name.is_empty()).unwrap_or("shop.example.com");
        return Err(format!("`{text}` is a URL; write the name alone, `{name}`"));
    }
    if text.starts_with("*.") {
        return Err(format!(
            "`{text}`: that a wildcard is served here cannot be shown to a CA; name the domains one by one"
        ));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.len() < 64
            && label.chars().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.contains('.') && name != "localhost" {
        return Err(format!("`{text}` is a short name; write the whole one, for example `{name}.internal`"));
    }
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("`{text}` is not the name of a host (names in other scripts are written `xn--...`)"));
    }
    Ok(name)
}
