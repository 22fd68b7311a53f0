//! What somebody wants explained: a request that nobody sent, told by its URL.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde_json::{Map, Value};

use super::host_table::host_of;
use super::{CompiledListener, CompiledProtocol, Explanation, Facts, PeerFacts, Request, Snapshot, Token, path};
use crate::attribute;
use crate::identity::SpiffeId;
use crate::model::Key;

/// The question is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QuestionError(String);

/// A request, and where it would arrive.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: String,
    pub headers: HeaderMap,
    /// Server name of the TLS handshake, where it is not the host of the URL.
    pub sni: Option<String>,
    /// Name in the certificate that the client shows. None: it shows none.
    pub client: Option<String>,
    /// Key of the listener, where the port of the URL does not say which.
    pub listener: Option<String>,
    /// Other end of the connection. None: what policies say of it is not known.
    pub source: Option<IpAddr>,
    /// The client's address, as proxies in front say; none: there are none, it is the other end of the connection.
    pub remote: Option<IpAddr>,
    /// Of a token that is good; empty: there is none.
    claims: Map<String, Value>,
    uri: Uri,
}

impl Question {
    /// `http://host/path`, `https://host:port/path?query`
    pub fn new(url: &str) -> Result<Question, QuestionError> {
        let form = "a URL looks like http://host/path or https://host:port/path?query";
        let wrong = |what: String| QuestionError(format!("url `{url}` {what}; {form}"));
        let uri: Uri = url.parse().map_err(|error| QuestionError(format!("url `{url}`: {error}; {form}")))?;
        match uri.scheme_str() {
            Some("http" | "https") => {
                let (method, headers, claims) = ("GET".to_owned(), HeaderMap::new(), Map::new());
                let (sni, client, listener, source, remote) = (None, None, None, None, None);
                Ok(Question { method, headers, sni, client, listener, source, remote, claims, uri })
            }
            _ => Err(wrong("does not begin with http:// or https://".to_owned())),
        }
    }

    /// A header `NAME:VALUE`. `host` replaces the authority, as in a request.
    pub fn header(&mut self, line: &str) -> Result<(), QuestionError> {
        let wrong = |what: &dyn std::fmt::Display| QuestionError(format!("header `{line}`: {what}"));
        let (name, value) =
            line.split_once(':').ok_or_else(|| QuestionError(format!("header `{line}` is not NAME:VALUE")))?;
        let name: HeaderName = name.trim().parse().map_err(|error| wrong(&error))?;
        let value: HeaderValue = value.trim().parse().map_err(|error| wrong(&error))?;
        self.headers.append(name, value);
        Ok(())
    }

    /// An address, for [`Self::source`] and [`Self::remote`].
    pub fn address(text: &str) -> Result<IpAddr, QuestionError> {
        text.parse().map_err(|_| QuestionError(format!("`{text}` is not an IP address")))
    }

    /// A claim of its token, `NAME=VALUE` or `[a][b]=VALUE`; given again it is a list.
    pub fn claim(&mut self, line: &str) -> Result<(), QuestionError> {
        let form = || QuestionError(format!("claim `{line}` is not NAME=VALUE or [a][b]=VALUE"));
        let (name, value) = line.split_once('=').ok_or_else(form)?;
        let names = attribute::claim(name.trim()).ok_or_else(form)?;
        let (last, outer) = names.split_last().ok_or_else(form)?;
        let mut claims = &mut self.claims;
        for name in outer {
            let inner = claims.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
            claims = inner.as_object_mut().ok_or_else(form)?;
        }
        let given = Value::from(value);
        match claims.get_mut(last) {
            None => drop(claims.insert(last.clone(), given)),
            Some(Value::Array(list)) => list.push(given),
            Some(one) => *one = Value::Array(vec![one.take(), given]),
        }
        Ok(())
    }

    /// What these tables would do with it.
    pub fn ask(&self, snapshot: &Snapshot) -> Result<Explanation, QuestionError> {
        let mut headers = self.headers.clone();
        let host = headers.remove("host").and_then(|value| value.to_str().map(str::to_owned).ok());
        let authority = host.or_else(|| self.uri.authority().map(ToString::to_string)).unwrap_or_default();
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut listeners = self.listeners(snapshot);
        listeners.sort_by(|a, b| a.listener.key.cmp(&b.listener.key));
        let mut explanations = Vec::new();
        let id = self.client.as_deref().and_then(|client| client.parse::<SpiffeId>().ok());
        let principal = self.client.as_deref().map(|client| client.strip_prefix("spiffe://").unwrap_or(client));
        let https = self.is_https();
        let token = (!self.claims.is_empty()).then(|| Token::new(self.claims.clone(), &[]));
        for listener in listeners {
            let target = path::normalize(target, listener.listener.path_normalization)
                .map_err(|error| QuestionError(format!("path `{target}`: {error}")))?;
            let (path, query) = path::split_query(&target);
            let scheme = if is_tls(listener) || (is_outbound(listener) && https) { "https" } else { "http" };
            let request = Request {
                method: &self.method,
                scheme,
                authority: &authority,
                path,
                query,
                headers: &headers,
                token: token.as_ref(),
            };
            let sni = self.sni.as_deref().or(self.uri.host());
            let mut explanation = snapshot.explain(&listener.listener.key, sni, &request);
            let facts = Facts {
                request: Some(request),
                source: self.source,
                remote: self.remote.or(self.source),
                local: listener.listener.address.socket(),
                sni: sni.filter(|_| is_tls(listener)),
                peer: principal.map(|principal| PeerFacts { principal, id: id.as_ref() }),
            };
            explanation.authorization = snapshot.authorizer.explain(&facts);
            // What a workload asks for itself is counted where it arrives.
            if !is_outbound(listener) {
                explanation.rate_limits = snapshot.rate_limiter.explain(&facts);
            }
            explanations.push(explanation);
        }
        // One that knows the host, else the first.
        let lost = |explanation: &Explanation| matches!(&*explanation.outcome, "no host" | "no server");
        let best = explanations.iter().position(|explanation| !lost(explanation)).unwrap_or(0);
        if explanations.is_empty() {
            let nowhere = Explanation { generation: snapshot.generation, ..Explanation::default() };
            return Ok(Explanation { outcome: "no listener".into(), ..nowhere });
        }
        Ok(explanations.swap_remove(best))
    }

    /// The name that has to be asked for before these tables can tell.
    pub fn lacks(&self, snapshot: &Snapshot) -> Option<Key> {
        let host = self.headers.get("host").and_then(|value| value.to_str().ok());
        let host = host_of(host.or(self.uri.host())?);
        self.listeners(snapshot).into_iter().find_map(|listener| match &listener.protocol {
            CompiledProtocol::Outbound(outbound) => outbound.lacks_name(host),
            _ => None,
        })
    }

    fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Listeners that are meant: by key, by port, else by scheme.
    fn listeners<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s CompiledListener> {
        let all = || snapshot.listeners.values().map(std::convert::AsRef::as_ref);
        if let Some(key) = &self.listener {
            return all().filter(|listener| *listener.listener.key == **key).collect();
        }
        let https = self.is_https();
        let fits = |listener: &&CompiledListener| is_outbound(listener) || is_tls(listener) == https;
        let at_port = |port: u16| {
            // A workload's own requests are redirected, whatever port they are for.
            let here = move |listener: &&CompiledListener| {
                is_outbound(listener) || listener.listener.port == port || listener.listener.address.port() == port
            };
            all().filter(fits).filter(here).collect::<Vec<_>>()
        };
        match self.uri.port_u16() {
            Some(port) => at_port(port),
            None => {
                let usual = at_port(if https { 443 } else { 80 });
                if usual.is_empty() { all().filter(fits).collect() } else { usual }
            }
        }
    }
}

fn is_outbound(listener: &CompiledListener) -> bool {
    matches!(listener.protocol, CompiledProtocol::Outbound(_))
}

fn is_tls(listener: &CompiledListener) -> bool {
    matches!(listener.protocol, CompiledProtocol::Tls(_))
}
