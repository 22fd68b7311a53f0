//! What stands inside of a resource: the model as JSON. A field or variant that this build does not know makes it refuse
//! the resource: it may be a condition, and to ignore one would widen a rule.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{
    Authentication, Authorization, Challenge, Destination, DnsName, HostPattern, Key, Listener, ProxySettings,
    RateLimits, TcpRoute, VirtualHost,
};
use crate::object::ObjectRef;

/// Resource of the kind `Config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Config {
    Listener(Listener),
    /// A route set without its virtual hosts, which are resources of their own.
    Routes {
        key: Key,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tcp: Vec<TcpRoute>,
        origin: ObjectRef,
    },
    Host {
        routes: Key,
        host: VirtualHost,
    },
    Destination(Destination),
    Settings(ProxySettings),
    Authorization(Authorization),
    Authentication(Authentication),
    RateLimits(RateLimits),
    /// Only for proxies that are asked for names.
    DnsName(DnsName),
    /// Only for gateways, and only while a CA may look.
    Challenge(Challenge),
}

impl Config {
    /// Name of the resource: unique, and the same for the same thing in every publication.
    pub fn name(&self) -> String {
        match self {
            Config::Listener(listener) => listener_name(&listener.key),
            Config::Routes { key, .. } => routes_name(key),
            Config::Host { routes, host } => host_name(routes, &host.host),
            Config::Destination(destination) => destination_name(&destination.key),
            Config::Settings(_) => SETTINGS.to_owned(),
            Config::Authorization(policy) => authorization_name(&policy.key),
            Config::Authentication(policy) => authentication_name(&policy.key),
            Config::RateLimits(limits) => rate_limits_name(&limits.key),
            Config::DnsName(name) => dns_name(&name.key),
            Config::Challenge(challenge) => challenge_name(&challenge.key),
        }
    }
}

pub(super) const SETTINGS: &str = "settings";

pub(super) fn listener_name(key: &str) -> String {
    format!("listener/{key}")
}

pub(super) fn routes_name(key: &str) -> String {
    format!("routes/{key}")
}

pub(super) fn host_name(routes: &str, host: &HostPattern) -> String {
    format!("host/{routes}/{host}")
}

pub(super) fn destination_name(key: &str) -> String {
    format!("destination/{key}")
}

pub(super) fn authorization_name(key: &str) -> String {
    format!("authorization/{key}")
}

pub(super) fn authentication_name(key: &str) -> String {
    format!("authentication/{key}")
}

pub(super) fn rate_limits_name(key: &str) -> String {
    format!("rate-limits/{key}")
}

pub(super) fn dns_name(key: &str) -> String {
    format!("dns/{key}")
}

pub(super) fn challenge_name(key: &str) -> String {
    format!("challenge/{key}")
}

/// Why a resource is refused.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("this version does not know `{0}`")]
    Unknown(String),
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it is called `{0}`")]
    Misnamed(String),
}

pub(super) fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(body)
}

/// Reads a body, all of it.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let mut unknown: Option<String> = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_ignored::deserialize(&mut json, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    })?;
    json.end()?;
    match unknown {
        None => Ok(value),
        Some(field) => Err(DecodeError::Unknown(field)),
    }
}

/// Version of a body: a hash that is the same in every build (FNV-1a, 64 bits, and the length), so that replicas of the
/// controller agree and a proxy that comes back to another one is sent nothing twice.
pub fn version_of(body: &[u8]) -> String {
    let hash = body
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}{:x}", body.len())
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
