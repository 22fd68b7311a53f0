//! What a rule does: forward, redirect or answer, with its header operations, timeout and retries. Defaults are filled in
//! here.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::Context;
use super::http_match::NeverMatches;
use super::rules::Effect;
use crate::api::{
    self, HeaderOperations, Headers, HttpBody, HttpFault, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute,
    HttpRouteDestination, Percent, RedirectPortSelection, VirtualService, grpc_status,
};
use crate::diag;
use crate::model::{
    Abort, AbortStatus, Action, Delay, DirectResponse, Fault, Forward, HeaderOp, HeaderOps, Mirror, PathRewrite,
    Redirect, RedirectPath, RedirectPort, RetryOn, RetryPolicy, Rewrite, Share, Split,
};
use crate::world::Entry;

/// Where nobody says otherwise: what was not done, whatever the method.
static DEFAULT_RETRIES: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
    let on = RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM | RetryOn::UNAVAILABLE | RetryOn::CANCELLED;
    Arc::new(RetryPolicy { attempts: 2, on, ..RetryPolicy::default() })
});

/// Of requests that arrive at the workload: what it never saw.
static INBOUND_RETRIES: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
    Arc::new(RetryPolicy { attempts: 2, on: RetryOn::RESET_BEFORE_REQUEST, ..RetryPolicy::default() })
});

pub(super) static NO_RETRIES: LazyLock<Arc<RetryPolicy>> = LazyLock::new(Arc::default);

impl Context<'_> {
    pub(super) fn effect(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        http: &HttpRoute,
        port: u16,
    ) -> Result<Effect, NeverMatches> {
        let field = format!("spec.http[{}]", http.index);
        let headers = self.headers(http.headers.as_deref());
        let action = if let Some(redirect) = &http.redirect {
            Action::Redirect(read_redirect(redirect))
        } else if let Some(answer) = &http.direct_response {
            let body = match &answer.body {
                Some(HttpBody::String(text)) => Some(text.clone().into_bytes()),
                Some(HttpBody::Bytes(bytes)) => Some(bytes.clone()),
                None => None,
            };
            match u16::try_from(answer.status) {
                Ok(status @ 200..=599) => {
                    Action::Respond(DirectResponse { status, body: body.filter(|body| !body.is_empty()) })
                }
                _ => self.incomplete(entry, &field, format!("status {} cannot be answered", answer.status)),
            }
        } else {
            self.forward(entry, http, &field, port)?
        };
        Ok((Arc::new(action), headers))
    }

    /// Nothing that the user wrote can be done: 500, so that no other rule takes the requests.
    fn incomplete(&mut self, entry: &Entry<VirtualService>, field: &str, message: String) -> Action {
        self.findings.report(diag::RULE_INCOMPLETE, entry, field, message, None);
        Action::Respond(DirectResponse { status: 500, body: None })
    }

    fn forward(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        http: &HttpRoute,
        field: &str,
        port: u16,
    ) -> Result<Action, NeverMatches> {
        if let Some(regex) = http.rewrite.as_ref().and_then(|rewrite| rewrite.uri_regex_rewrite.as_ref()) {
            let place = format!("{field}.rewrite.uriRegexRewrite.match");
            if !self.regex_usable(entry, &place, &regex.r#match) {
                return Err(NeverMatches);
            }
        }
        let mut splits = Vec::with_capacity(http.route.len());
        let single = http.route.len() == 1;
        for (index, route) in http.route.iter().enumerate() {
            // A single destination gets everything, whatever its weight; among several, no weight is weight 0.
            let weight = if single { 1 } else { u32::try_from(route.weight.unwrap_or_default()).unwrap_or_default() };
            if weight > 0 {
                splits.push(self.split(entry, route, &format!("{field}.route[{index}]"), port, weight));
            }
        }
        if splits.is_empty() {
            let message = if http.route.is_empty() {
                "the rule has no route, redirect or directResponse"
            } else {
                "the weights of its destinations add up to 0"
            };
            return Ok(self.incomplete(entry, field, message.to_owned()));
        }
        Ok(Action::Forward(Forward {
            splits,
            rewrite: http.rewrite.as_ref().map(read_rewrite).unwrap_or_default(),
            timeout: http.timeout.map(|timeout| timeout.get()).filter(|timeout| !timeout.is_zero()),
            retry: self.retries(http.retries.as_deref()),
            fault: http.fault.as_deref().and_then(read_fault).map(Box::new),
            mirrors: self.mirrors(entry, http, field, port),
            cors: self.cors(entry, http, field),
        }))
    }

    /// `mirrors`, or the one of `mirror` with its share, which has had three names.
    fn mirrors(&mut self, entry: &Arc<Entry<VirtualService>>, http: &HttpRoute, field: &str, port: u16) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        if let Some(to) = &http.mirror {
            let share = match (http.mirror_percentage, http.mirror_percent) {
                (Some(percentage), _) => percent(percentage),
                (None, Some(whole)) => Share::of_percent(f64::from(whole)),
                (None, None) => Some(Share::ALL),
            };
            if let Some(share) = share {
                let destination = self.destination(entry, to, &format!("{field}.mirror"), port);
                mirrors.push(Mirror { destination, share });
            }
        }
        for (index, mirror) in http.mirrors.iter().enumerate() {
            if let Some(share) = mirror.percentage.map_or(Some(Share::ALL), percent) {
                let field = format!("{field}.mirrors[{index}].destination");
                let destination = self.destination(entry, &mirror.destination, &field, port);
                mirrors.push(Mirror { destination, share });
            }
        }
        mirrors
    }

    fn split(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        route: &HttpRouteDestination,
        field: &str,
        port: u16,
        weight: u32,
    ) -> Split {
        let destination = self.destination(entry, &route.destination, &format!("{field}.destination"), port);
        Split { destination, weight, headers: self.headers(route.headers.as_ref()) }
    }

    /// The rule's policy, else the mesh's, else two tries more where nothing was done.
    pub(super) fn retries(&self, policy: Option<&HttpRetry>) -> Arc<RetryPolicy> {
        read_retries(policy.or(self.world.mesh().config.default_http_retry_policy.as_ref()))
    }

    /// Of requests that arrive at the workload.
    pub(super) fn inbound_retries(&self) -> Arc<RetryPolicy> {
        match &self.world.mesh().config.default_inbound_http_retry_policy {
            Some(policy) => read_retries(Some(policy)),
            None => Arc::clone(&INBOUND_RETRIES),
        }
    }

    fn headers(&self, headers: Option<&Headers>) -> Arc<HeaderOps> {
        let ops = headers.map(|headers| HeaderOps {
            request: read_operations(headers.request.as_ref(), true),
            response: read_operations(headers.response.as_ref(), false),
        });
        match ops.filter(|ops| !ops.request.is_empty() || !ops.response.is_empty()) {
            Some(ops) => Arc::new(ops),
            None => Arc::clone(&self.no_headers),
        }
    }
}

fn percent(percentage: Percent) -> Option<Share> {
    Share::of_percent(percentage.value.unwrap_or_default())
}

/// Without a share nothing happens: unlike elsewhere, no percentage means 0.
fn read_fault(fault: &HttpFault) -> Option<Fault> {
    let delay = fault.delay.as_ref().and_then(|delay| {
        let time = delay.fixed_delay?.get();
        let share = match (delay.percentage, delay.percent) {
            (Some(percentage), _) => percent(percentage),
            (None, whole) => Share::of_percent(f64::from(whole.unwrap_or_default())),
        };
        share.filter(|_| !time.is_zero()).map(|share| Delay { time, share })
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let status = match (abort.http_status, abort.grpc_status.as_deref()) {
            (Some(status), _) => AbortStatus::Http(u16::try_from(status).ok().filter(|s| (200..=599).contains(s))?),
            (None, Some(name)) => AbortStatus::Grpc(grpc_status(name)?),
            (None, None) => return None,
        };
        abort.percentage.and_then(percent).map(|share| Abort { status, share })
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

/// None: two tries more where nothing was done.
fn read_retries(policy: Option<&HttpRetry>) -> Arc<RetryPolicy> {
    let Some(policy) = policy else { return Arc::clone(&DEFAULT_RETRIES) };
    let attempts = policy.attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or_default();
    if attempts == 0 {
        return Arc::clone(&NO_RETRIES);
    }
    let words = policy.retry_on.as_deref().unwrap_or_default();
    let words: Vec<&str> = words.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let on = words.iter().filter_map(|word| RetryOn::of_word(word)).fold(RetryOn::default(), |all, one| all | one);
    Arc::new(RetryPolicy {
        attempts,
        on: if words.is_empty() { DEFAULT_RETRIES.on } else { on },
        statuses: words.iter().filter_map(|word| word.parse().ok()).collect(),
        per_try_timeout: positive(policy.per_try_timeout),
        backoff: positive(policy.backoff),
        same_hosts: policy.retry_ignore_previous_hosts == Some(false),
        remote_localities: policy.retry_remote_localities == Some(true),
    })
}

fn positive(duration: Option<api::Duration>) -> Option<Duration> {
    duration.map(|duration| duration.get()).filter(|duration| !duration.is_zero())
}

/// An empty value changes nothing. `host` of a request is its authority.
fn read_operations(operations: Option<&HeaderOperations>, request: bool) -> HeaderOp {
    let Some(operations) = operations else { return HeaderOp::default() };
    let pairs = |map: &BTreeMap<String, String>| {
        let filled = map.iter().filter(|(_, value)| !value.is_empty());
        filled.map(|(name, value)| (header_name(name, request), value.clone())).collect()
    };
    HeaderOp {
        remove: operations.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
        set: pairs(&operations.set),
        add: pairs(&operations.add),
    }
}

fn header_name(name: &str, request: bool) -> String {
    let name = name.to_ascii_lowercase();
    if request && name == "host" { ":authority".to_owned() } else { name }
}

fn read_rewrite(rewrite: &HttpRewrite) -> Rewrite {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let path = match &rewrite.uri_regex_rewrite {
        Some(regex) => Some(PathRewrite::Regex { pattern: regex.r#match.clone(), substitution: regex.rewrite.clone() }),
        None => filled(&rewrite.uri).map(PathRewrite::Prefix),
    };
    Rewrite { path, authority: filled(&rewrite.authority) }
}

fn read_redirect(redirect: &HttpRedirect) -> Redirect {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let full = filled(&redirect.uri).map(|uri| {
        let uri = if uri.starts_with('/') { uri } else { format!("/{uri}") };
        RedirectPath::Full(uri)
    });
    let number = redirect.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let port = match (redirect.derive_port, number) {
        (_, Some(number)) => RedirectPort::Number(number),
        (Some(RedirectPortSelection::ProtocolDefault), None) => RedirectPort::ProtocolDefault,
        (Some(RedirectPortSelection::RequestPort), None) => RedirectPort::Request,
        (None, None) => RedirectPort::Keep,
    };
    Redirect {
        status: redirect
            .redirect_code
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| *code != 0)
            .unwrap_or(301),
        scheme: filled(&redirect.scheme),
        authority: filled(&redirect.authority),
        port,
        path: full.or_else(|| filled(&redirect.prefix_rewrite).map(RedirectPath::Prefix)),
    }
}

#[cfg(test)]
#[path = "http_action_tests.rs"]
mod tests;
