//! Attributes of requests, of which policies speak, and the values that they are compared with.
//!
//! A leaf: whoever checks a value, whoever sends it and whoever compares it must read it in the same way.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Names of attributes, for those who wrote another one.
pub(crate) const KEYS: &str = "allowed: request.headers[NAME], source.ip, remote.ip, source.namespace, source.principal, \
     source.serviceAccount, source.trustDomain, request.auth.principal, request.auth.audiences, request.auth.presenter, \
     request.auth.claims[NAME], destination.ip, destination.port, connection.sni";

/// Prefix of headers in rules of VirtualServices that mean claims.
const ROUTE_CLAIMS: &str = "@request.auth.claims";

/// Something known of a request, its client or its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Attribute {
    /// `cluster.local/ns/default/sa/a`: of the peer's certificate.
    SourcePrincipal,
    SourceNamespace,
    /// `namespace/name`
    SourceServiceAccount,
    SourceTrustDomain,
    /// Other end of the connection.
    SourceIp,
    /// The client, as far as proxies in front can be believed.
    RemoteIp,
    /// `issuer/subject` of a token.
    RequestPrincipal,
    Audiences,
    Presenter,
    /// A claim of a token, with the names of the claims that it is in.
    Claim(Vec<String>),
    /// In any case, with the port that the client wrote.
    Host,
    Method,
    /// Normalised, without query.
    Path,
    /// Lower case.
    Header(String),
    DestinationIp,
    DestinationPort,
    Sni,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ValueMatch {
    /// There is a value.
    Present,
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// Of a path: `{*}` is one segment, `{**}` all that follow.
    Template(String),
    Network(IpNet),
    Port(u16),
}

impl Attribute {
    /// Of a field of a policy's `source` or `operation`.
    pub(crate) fn of_field(field: &str) -> Option<Attribute> {
        Some(match field {
            "principals" => Attribute::SourcePrincipal,
            "requestPrincipals" => Attribute::RequestPrincipal,
            "namespaces" => Attribute::SourceNamespace,
            "serviceAccounts" => Attribute::SourceServiceAccount,
            "trustDomains" => Attribute::SourceTrustDomain,
            "ipBlocks" => Attribute::SourceIp,
            "remoteIpBlocks" => Attribute::RemoteIp,
            "hosts" => Attribute::Host,
            "ports" => Attribute::DestinationPort,
            "methods" => Attribute::Method,
            "paths" => Attribute::Path,
            _ => return None,
        })
    }

    /// Of the key of a condition.
    pub(crate) fn of_key(key: &str) -> Result<Attribute, String> {
        Ok(match key {
            "source.ip" => Attribute::SourceIp,
            "remote.ip" => Attribute::RemoteIp,
            "source.namespace" => Attribute::SourceNamespace,
            "source.principal" => Attribute::SourcePrincipal,
            "source.serviceAccount" => Attribute::SourceServiceAccount,
            "source.trustDomain" => Attribute::SourceTrustDomain,
            "request.auth.principal" => Attribute::RequestPrincipal,
            "request.auth.audiences" => Attribute::Audiences,
            "request.auth.presenter" => Attribute::Presenter,
            "destination.ip" => Attribute::DestinationIp,
            "destination.port" => Attribute::DestinationPort,
            "connection.sni" => Attribute::Sni,
            _ => {
                if let Some(rest) = key.strip_prefix("request.headers") {
                    return match brackets(rest).as_deref() {
                        Some([name]) => Ok(Attribute::Header(name.to_ascii_lowercase())),
                        _ => Err(format!("`{key}` does not name a header: request.headers[NAME]")),
                    };
                }
                if let Some(rest) = key.strip_prefix("request.auth.claims") {
                    let names = brackets(rest);
                    let message = || format!("`{key}` does not name a claim: request.auth.claims[NAME]");
                    return names.map(Attribute::Claim).ok_or_else(message);
                }
                return Err(format!("there is no attribute `{key}`"));
            }
        })
    }

    /// Of the name of a header in a VirtualService: `@request.auth.claims.a.b`, `@request.auth.claims[a][b]`. None: it is the name of
    /// a header.
    pub(crate) fn of_route_header(name: &str) -> Option<Result<Attribute, String>> {
        let wrong = || format!("`{name}` does not name a claim: {ROUTE_CLAIMS}.NAME or {ROUTE_CLAIMS}[NAME]");
        let Some(rest) = name.strip_prefix(ROUTE_CLAIMS) else {
            return name.starts_with('@').then(|| Err(wrong()));
        };
        let names = match rest.strip_prefix('.') {
            Some(rest) => {
                let names: Vec<String> = rest.split('.').map(str::to_owned).collect();
                names.iter().all(|name| !name.is_empty()).then_some(names)
            }
            None => brackets(rest),
        };
        Some(names.map(Attribute::Claim).ok_or_else(wrong))
    }

    /// A value of it as the user wrote it.
    pub(crate) fn value(&self, text: &str) -> Result<ValueMatch, String> {
        match self {
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                let wrong = || format!("`{text}` is not an IP address or a block such as `10.0.0.0/8`");
                network(text).map(ValueMatch::Network).ok_or_else(wrong)
            }
            Attribute::DestinationPort => match text.parse::<u16>() {
                Ok(port) if port > 0 => Ok(ValueMatch::Port(port)),
                _ => Err(format!("`{text}` is not a port")),
            },
            Attribute::Path if text.contains(['{', '}']) => template(text).map(ValueMatch::Template),
            Attribute::SourceServiceAccount => {
                let parts: Vec<&str> = text.split('/').collect();
                let valid = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty() && !part.contains('*'));
                let wrong = || format!("`{text}` is not a service account: NAME or NAMESPACE/NAME");
                valid.then(|| ValueMatch::Exact(text.to_owned())).ok_or_else(wrong)
            }
            _ => Ok(pattern(text)),
        }
    }

    /// Whether an external authorizer's policies may ask for it: these are looked at before tokens are.
    pub(crate) fn is_for_custom(&self) -> bool {
        use Attribute::{Audiences, Claim, Presenter, RequestPrincipal, SourceNamespace, SourcePrincipal};
        !matches!(self, SourcePrincipal | SourceNamespace | RequestPrincipal | Audiences | Presenter | Claim(_))
    }

    /// Whether it is known only of what speaks HTTP.
    pub fn is_http(&self) -> bool {
        use Attribute::{Audiences, Claim, Header, Host, Method, Path, Presenter, RequestPrincipal};
        matches!(self, RequestPrincipal | Audiences | Presenter | Claim(_) | Host | Method | Path | Header(_))
    }
}

/// A key of Istio's API that has a meaning in Envoy only.
pub(crate) fn is_envoys(key: &str) -> bool {
    key.strip_prefix("experimental.envoy.filters.").is_some_and(|rest| !rest.is_empty())
}

/// `*`, `begins*`, `*ends`, or the whole text.
fn pattern(text: &str) -> ValueMatch {
    match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
        ("*", ..) => ValueMatch::Present,
        (_, Some(end), _) => ValueMatch::Suffix(end.to_owned()),
        (_, _, Some(start)) => ValueMatch::Prefix(start.to_owned()),
        _ => ValueMatch::Exact(text.to_owned()),
    }
}

fn network(text: &str) -> Option<IpNet> {
    match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// What Istio lets through (`CheckValidPathTemplate`).
fn template(text: &str) -> Result<String, String> {
    let mut rest_taken = false;
    for segment in text.trim_matches('/').split('/') {
        match segment {
            "{*}" | "{**}" if rest_taken => {
                return Err(format!("`{text}`: only literal text can follow `{{**}}`"));
            }
            "{*}" => {}
            "{**}" => rest_taken = true,
            _ if segment.contains(['{', '}', '*']) => {
                return Err(format!("`{text}`: a segment is a literal text, `{{*}}` or `{{**}}`, not `{segment}`"));
            }
            _ => {}
        }
    }
    Ok(text.to_owned())
}

/// `[a][b]`
fn brackets(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<String> = inner.split("][").map(str::to_owned).collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

/// A claim by which requests are told apart: its name, or `[a][b]`.
pub(crate) fn claim(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { brackets(text) } else { (!text.is_empty()).then(|| vec![text.to_owned()]) }
}

/// As Go's `strconv.ParseBool` reads it, with which Istio reads annotations.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Attribute::SourcePrincipal => "source.principal",
            Attribute::SourceNamespace => "source.namespace",
            Attribute::SourceServiceAccount => "source.serviceAccount",
            Attribute::SourceTrustDomain => "source.trustDomain",
            Attribute::SourceIp => "source.ip",
            Attribute::RemoteIp => "remote.ip",
            Attribute::RequestPrincipal => "request.auth.principal",
            Attribute::Audiences => "request.auth.audiences",
            Attribute::Presenter => "request.auth.presenter",
            Attribute::Claim(names) => return write!(f, "request.auth.claims[{}]", names.join("][")),
            Attribute::Host => "host",
            Attribute::Method => "method",
            Attribute::Path => "path",
            Attribute::Header(name) => return write!(f, "request.headers[{name}]"),
            Attribute::DestinationIp => "destination.ip",
            Attribute::DestinationPort => "destination.port",
            Attribute::Sni => "connection.sni",
        };
        f.write_str(name)
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueMatch::Present => f.write_str("*"),
            ValueMatch::Exact(text) | ValueMatch::Template(text) => f.write_str(text),
            ValueMatch::Prefix(text) => write!(f, "{text}*"),
            ValueMatch::Suffix(text) => write!(f, "*{text}"),
            ValueMatch::Network(network) => write!(f, "{network}"),
            ValueMatch::Port(port) => write!(f, "{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_name_attributes() {
        let claim = |names: &[&str]| Attribute::Claim(names.iter().map(|name| (*name).to_owned()).collect());
        for (key, attribute) in [
            ("source.ip", Attribute::SourceIp),
            ("request.headers[X-A]", Attribute::Header("x-a".to_owned())),
            ("request.headers[:authority]", Attribute::Header(":authority".to_owned())),
            ("request.auth.claims[a.b]", claim(&["a.b"])),
            ("request.auth.claims[a][b]", claim(&["a", "b"])),
        ] {
            assert_eq!(Attribute::of_key(key).unwrap(), attribute);
        }
        for key in ["key1", "request.headers", "request.headers[]", "request.auth.claims[a", "request.headers[a][b]"] {
            assert!(Attribute::of_key(key).is_err(), "{key}");
        }
        assert_eq!(Attribute::of_route_header("x-a"), None);
        assert_eq!(Attribute::of_route_header("@request.auth.claims.a.b").unwrap().unwrap(), claim(&["a", "b"]));
        assert_eq!(Attribute::of_route_header("@request.auth.claims[a.b]").unwrap().unwrap(), claim(&["a.b"]));
        assert!(Attribute::of_route_header("@request.auth.claims").unwrap().is_err());
        assert!(Attribute::of_route_header("@other").unwrap().is_err());
    }

    #[test]
    fn values_are_read_by_attribute() {
        let path = |text: &str| Attribute::Path.value(text);
        assert_eq!(path("*").unwrap(), ValueMatch::Present);
        assert_eq!(path("/a*").unwrap(), ValueMatch::Prefix("/a".to_owned()));
        assert_eq!(path("*.js").unwrap(), ValueMatch::Suffix(".js".to_owned()));
        assert_eq!(path("/a/{*}/b").unwrap(), ValueMatch::Template("/a/{*}/b".to_owned()));
        for wrong in ["/{a}", "/{**}/{*}", "/a{*}", "/a/{*}/*", "/{*"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
        assert!(Attribute::SourceIp.value("10.0.0.0/8").is_ok());
        assert!(Attribute::SourceIp.value("ip1").is_err());
        assert!(Attribute::DestinationPort.value("0").is_err());
        assert!(Attribute::SourceServiceAccount.value("a/b/c").is_err());
        assert!(Attribute::SourceServiceAccount.value("ns/sa").is_ok());
    }
}
