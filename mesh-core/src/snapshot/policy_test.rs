//! The conditions of policies, prepared.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::condition::HeaderKey;
use super::{Facts, Pattern, Request, Token};

/// A condition of a policy.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub subject: Subject,
    pub negated: bool,
}

/// What is looked at, and what it may be.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Principal(Texts),
    Namespace(Texts),
    /// Namespace and name.
    ServiceAccount(Box<[(Box<str>, Box<str>)]>),
    TrustDomain(Texts),
    SourceIp(Box<[IpNet]>),
    RemoteIp(Box<[IpNet]>),
    RequestPrincipal(Texts),
    Claim(Box<[String]>, Texts),
    /// Lower case. `loose`: a host without a port stands for all its ports, and for its name with a dot at the end.
    Host {
        hosts: Texts,
        loose: bool,
    },
    Method(Texts),
    Path(Texts),
    Header(HeaderKey, Texts),
    DestinationIp(Box<[IpNet]>),
    DestinationPort(Box<[u16]>),
    Sni(Texts),
}

/// Texts, any of which will do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    /// Anything but the empty text; of a header, the empty text too.
    pub present: bool,
    /// Sorted.
    pub exact: Box<[Box<str>]>,
    pub prefixes: Box<[Box<str>]>,
    pub suffixes: Box<[Box<str>]>,
    pub patterns: Box<[Arc<Pattern>]>,
}

impl Texts {
    fn matches(&self, value: &[u8]) -> bool {
        (self.present && !value.is_empty())
            || self.exact.binary_search_by(|text| text.as_bytes().cmp(value)).is_ok()
            || self.prefixes.iter().any(|text| value.starts_with(text.as_bytes()))
            || self.suffixes.iter().any(|text| value.ends_with(text.as_bytes()))
            || self.patterns.iter().any(|pattern| pattern.is_match(value))
    }

    /// The same for texts in lower case, and a value in any.
    fn matches_any_case(&self, value: &[u8]) -> bool {
        let order = |text: &[u8]| -> Ordering { text.iter().copied().cmp(value.iter().map(u8::to_ascii_lowercase)) };
        let same =
            |part: Option<&[u8]>, text: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(text.as_bytes()));
        (self.present && !value.is_empty())
            || self.exact.binary_search_by(|text| order(text.as_bytes())).is_ok()
            || self.prefixes.iter().any(|text| same(value.get(..text.len()), text))
            || self
                .suffixes
                .iter()
                .any(|text| same(value.len().checked_sub(text.len()).and_then(|start| value.get(start..)), text))
    }
}

impl Test {
    /// `unknown`: what counts where it is not known, because this is not HTTP or the caller does not say.
    pub fn holds(&self, facts: &Facts<'_>, unknown: bool) -> bool {
        self.subject.matches(facts).map_or(unknown, |matches| matches != self.negated)
    }

    /// The attribute that is looked at, if it is an address that is not known.
    pub fn lacks(&self, facts: &Facts<'_>) -> Option<&'static str> {
        match self.subject {
            Subject::SourceIp(_) if facts.source.is_none() => Some("source.ip"),
            Subject::RemoteIp(_) if facts.remote.is_none() => Some("remote.ip"),
            Subject::DestinationIp(_) if facts.local.is_none() => Some("destination.ip"),
            Subject::DestinationPort(_) if facts.local.is_none() => Some("destination.port"),
            _ => None,
        }
    }
}

impl Subject {
    /// None: it is not known.
    fn matches(&self, facts: &Facts<'_>) -> Option<bool> {
        let id = facts.peer.and_then(|peer| peer.id);
        Some(match self {
            Subject::Principal(texts) => facts.peer.is_some_and(|peer| texts.matches(peer.principal.as_bytes())),
            Subject::Namespace(texts) => id.is_some_and(|id| texts.matches(id.namespace().as_bytes())),
            Subject::TrustDomain(texts) => id.is_some_and(|id| texts.matches(id.trust_domain().as_bytes())),
            Subject::ServiceAccount(accounts) => id.is_some_and(|id| {
                accounts
                    .iter()
                    .any(|(namespace, name)| **namespace == *id.namespace() && **name == *id.service_account())
            }),
            Subject::SourceIp(networks) => contains(networks, facts.source?),
            Subject::RemoteIp(networks) => contains(networks, facts.remote?),
            Subject::DestinationIp(networks) => contains(networks, facts.local?.ip()),
            Subject::DestinationPort(ports) => ports.contains(&facts.local?.port()),
            Subject::Sni(texts) => facts.sni.is_some_and(|sni| texts.matches(sni.as_bytes())),
            Subject::RequestPrincipal(texts) => {
                let principal = facts.request?.token.and_then(Token::principal);
                principal.is_some_and(|principal| texts.matches(principal.as_bytes()))
            }
            _ => return self.matches_request(facts),
        })
    }

    fn matches_request(&self, facts: &Facts<'_>) -> Option<bool> {
        let request: &Request<'_> = &facts.request?;
        Some(match self {
            Subject::Claim(names, texts) => {
                request.token.is_some_and(|token| token.has(names, |text| texts.matches(text)))
            }
            Subject::Host { hosts, loose } => host_matches(hosts, request.authority, *loose),
            Subject::Method(texts) => texts.matches(request.method.as_bytes()),
            Subject::Path(texts) => texts.matches(request.path.as_bytes()),
            Subject::Header(name, texts) => {
                let (found, matched) = name.test(request, |line| texts.matches(line));
                matched || (found && texts.present)
            }
            _ => return None,
        })
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    // An IPv4 client of a socket for both families.
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

fn host_matches(hosts: &Texts, authority: &str, loose: bool) -> bool {
    if hosts.matches_any_case(authority.as_bytes()) {
        return true;
    }
    if !loose {
        return false;
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() != authority.len() && hosts.matches_any_case(host.as_bytes())
}
