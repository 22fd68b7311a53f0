//! `/explain?url=https://a.example/x&method=GET&header=name:value`: what the serving tables would do with a request.
//! `listener=KEY` chooses the listener, where the port of the URL does not.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use mesh_core::snapshot::{CompiledListener, CompiledProtocol, Explanation, Request, Snapshot};

use super::Admin;
use super::page::{Answer, Ask, json, text};
use crate::http::path;

pub fn page(admin: &Admin, ask: &Ask) -> Answer {
    match Question::parse(ask) {
        Ok(question) => match question.explain(&admin.cells.live.load().snapshot) {
            Ok(explanation) => json(&explanation),
            Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        },
        Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    }
}

struct Question<'a> {
    method: &'a str,
    https: bool,
    authority: String,
    port: Option<u16>,
    sni: Option<String>,
    target: String,
    headers: HeaderMap,
    listener: Option<&'a str>,
}

impl<'a> Question<'a> {
    fn parse(ask: &'a Ask) -> Result<Question<'a>, String> {
        let url = ask.get("url").ok_or("say which request: /explain?url=http://host/path")?;
        let uri = parse_url(url)?;
        let mut headers = HeaderMap::new();
        for line in ask.all("header") {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("header `{line}` is not NAME:VALUE"))?;
            let name: HeaderName = name.trim().parse().map_err(|error| format!("header `{line}`: {error}"))?;
            let value: HeaderValue = value.trim().parse().map_err(|error| format!("header `{line}`: {error}"))?;
            headers.append(name, value);
        }
        let host_header = headers.remove("host").and_then(|value| value.to_str().map(str::to_owned).ok());
        let authority = host_header.or_else(|| uri.authority().map(ToString::to_string)).unwrap_or_default();
        Ok(Question {
            method: ask.get("method").unwrap_or("GET"),
            https: uri.scheme_str() == Some("https"),
            authority,
            port: uri.port_u16(),
            sni: ask.get("sni").or(uri.host()).map(str::to_owned),
            target: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            headers,
            listener: ask.get("listener"),
        })
    }

    fn explain(&self, snapshot: &Snapshot) -> Result<Explanation, String> {
        let mut candidates = self.candidates(snapshot);
        if candidates.is_empty() {
            return Ok(self.at(
                "",
                "http",
                &path::normalize(&self.target, Default::default()).unwrap_or_default(),
                snapshot,
            ));
        }
        candidates.sort_by(|a, b| a.listener.key.cmp(&b.listener.key));
        let mut explanations = Vec::new();
        for listener in candidates {
            let target = path::normalize(&self.target, listener.listener.path_normalization)
                .map_err(|error| format!("path `{}`: {}", self.target, error.detail()))?;
            let scheme = if is_tls(listener) { "https" } else { "http" };
            explanations.push(self.at(&listener.listener.key, scheme, &target, snapshot));
        }
        // One that knows the host, else the first.
        let lost = |explanation: &Explanation| matches!(explanation.outcome, "no host" | "no server");
        let best = explanations.iter().position(|explanation| !lost(explanation)).unwrap_or(0);
        Ok(explanations.swap_remove(best))
    }

    fn at(&self, listener: &str, scheme: &str, target: &str, snapshot: &Snapshot) -> Explanation {
        let (path, query) = path::split_query(target);
        let request =
            Request { method: self.method, scheme, authority: &self.authority, path, query, headers: &self.headers };
        snapshot.explain(listener, self.sni.as_deref(), &request)
    }

    /// Listeners that are meant: by key, by port, else by scheme.
    fn candidates<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s CompiledListener> {
        let all = || snapshot.listeners.values().map(std::convert::AsRef::as_ref);
        if let Some(key) = self.listener {
            return all().filter(|listener| &*listener.listener.key == key).collect();
        }
        let fits = |listener: &&CompiledListener| is_tls(listener) == self.https;
        let at_port = |port: u16| {
            let here = move |listener: &&CompiledListener| {
                listener.listener.port == port || listener.listener.address.port() == port
            };
            all().filter(fits).filter(here).collect::<Vec<_>>()
        };
        match self.port {
            Some(port) => at_port(port),
            None => {
                let usual = at_port(if self.https { 443 } else { 80 });
                if usual.is_empty() { all().filter(fits).collect() } else { usual }
            }
        }
    }
}

fn parse_url(url: &str) -> Result<Uri, String> {
    let form = "a URL looks like http://host/path or https://host:port/path?query";
    let uri: Uri = url.parse().map_err(|error| format!("url `{url}`: {error}; {form}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        _ => Err(format!("url `{url}` does not begin with http:// or https://; {form}")),
    }
}

fn is_tls(listener: &CompiledListener) -> bool {
    matches!(listener.protocol, CompiledProtocol::Tls(_))
}
