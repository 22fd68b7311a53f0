//! What a pod's annotations ask of its sidecar. A value that means nothing is an error, which keeps the pod from being created: a
//! rule that was left out would lead connections where nobody expects them.

use std::str::FromStr;

use ipnet::IpNet;
use mesh_core::api::ProxyConfig;
use serde_json::{Map, Value};

use super::pod::Metadata;
use super::probes::STATUS_PORT;

/// Annotations of Istio's that nothing here hears, and why.
const UNHEARD: &[(&str, &str)] = &[
    ("sidecar.istio.io/agentLogLevel", "there is one program, and `sidecar.istio.io/logLevel` is its level"),
    ("sidecar.istio.io/bootstrapOverride", "it is a file of Envoy's"),
    ("sidecar.istio.io/capNetBindService", "the sidecar listens on ports above 1024 only"),
    ("sidecar.istio.io/componentLogLevel", "its components are Envoy's; `sidecar.istio.io/logLevel` is for all"),
    ("sidecar.istio.io/extraStatTags", "labels of metrics are the same for all"),
    ("sidecar.istio.io/proxyImageType", "there is one image, without a shell"),
    ("sidecar.istio.io/statsEvictionInterval", "how long series stay is the same for all"),
    ("sidecar.istio.io/statsInclusionPrefixes", "metrics are the same for all"),
    ("sidecar.istio.io/statsInclusionRegexps", "metrics are the same for all"),
    ("sidecar.istio.io/statsInclusionSuffixes", "metrics are the same for all"),
    ("readiness.status.sidecar.istio.io/applicationPorts", "the application's own probe says whether it is ready"),
];
/// What of `proxy.istio.io/config` is heard by the injection or by the sidecar.
const HEARD: &[&str] = &["concurrency", "holdApplicationUntilProxyStarts", "proxyMetadata", "terminationDrainDuration"];
/// Inbound ports of the sidecar itself.
const OWN_PORTS: &str = "15090,15021,15020";

/// An annotation with a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation `{annotation}`: `{value}` is not {wanted}")]
pub struct Malformed {
    pub annotation: String,
    pub value: String,
    pub wanted: String,
}

/// How inbound and outbound connections come to the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interception {
    #[default]
    Redirect,
    /// Not at all: the application asks the sidecar itself.
    None,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub image: Option<String>,
    /// Of the sidecar: what it asks for, and what it may use at most.
    pub requests: Map<String, Value>,
    pub limits: Map<String, Value>,
    pub log: Option<String>,
    pub interception: Interception,
    /// Flags of `meshgate-sidecar redirect`.
    pub redirect: Vec<String>,
    pub rewrite_probes: bool,
    pub merge_metrics: bool,
    /// Whether it is an init container; none: as the cluster can.
    pub native: Option<bool>,
    /// Whether the pod is ready only when the sidecar is.
    pub readiness: bool,
    pub initial_delay_seconds: Option<u32>,
    pub period_seconds: Option<u32>,
    pub failure_threshold: Option<u32>,
    pub volumes: Vec<Value>,
    pub mounts: Vec<Value>,
    pub proxy: ProxyConfig,
    /// `proxy.istio.io/config`, for the sidecar.
    pub proxy_text: Option<String>,
    /// What is asked for and not done.
    pub warnings: Vec<String>,
}

impl Wishes {
    /// `defaults`: of the mesh (`defaultConfig`).
    pub fn read(metadata: &Metadata, defaults: &ProxyConfig) -> Result<Wishes, Malformed> {
        let said = Said(metadata);
        let mut warnings = Vec::new();
        for (annotation, why) in UNHEARD.iter().filter(|(annotation, _)| said.text(annotation).is_some()) {
            warnings.push(format!("annotation `{annotation}` has no effect: {why}"));
        }
        let (proxy, proxy_text) = proxy_config(&said, defaults, &mut warnings)?;
        let port = said.parsed::<u16>("status.sidecar.istio.io/port", "a port")?.unwrap_or(STATUS_PORT);
        if ![0, STATUS_PORT].contains(&port) {
            warnings.push(format!("annotation `status.sidecar.istio.io/port`: the port is always {STATUS_PORT}"));
        }
        let number = |name: &str| {
            said.parsed(&format!("readiness.status.sidecar.istio.io/{name}"), "a number of seconds or times")
        };
        let mut redirect = ports_and_ranges(&said)?;
        redirect.extend(interfaces(&said)?);
        Ok(Wishes {
            image: said.text("sidecar.istio.io/proxyImage").filter(|image| *image != "auto").map(str::to_owned),
            requests: said.amounts("")?,
            limits: said.amounts("Limit")?,
            log: said.text("sidecar.istio.io/logLevel").map(log_level).transpose()?,
            interception: interception(&said, &mut warnings)?,
            redirect,
            rewrite_probes: said.flag("sidecar.istio.io/rewriteAppHTTPProbers")?.unwrap_or(true) && port != 0,
            merge_metrics: said.flag("prometheus.istio.io/merge-metrics")?.unwrap_or(true),
            native: said.flag("sidecar.istio.io/nativeSidecar")?,
            readiness: port != 0,
            initial_delay_seconds: number("initialDelaySeconds")?,
            period_seconds: number("periodSeconds")?,
            failure_threshold: number("failureThreshold")?,
            volumes: said.named("sidecar.istio.io/userVolume")?,
            mounts: said.named("sidecar.istio.io/userVolumeMount")?,
            proxy,
            proxy_text,
            warnings,
        })
    }
}

/// The annotations, by what they are to be.
struct Said<'a>(&'a Metadata);

impl<'a> Said<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.annotation(name).map(str::trim).filter(|text| !text.is_empty())
    }

    fn parsed<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, Malformed> {
        let parse = |text: &str| text.parse().map_err(|_| malformed(name, text, wanted));
        self.text(name).map(parse).transpose()
    }

    /// As Go reads booleans.
    fn flag(&self, name: &str) -> Result<Option<bool>, Malformed> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(Some(true)),
            Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(Some(false)),
            Some(other) => Err(malformed(name, other, "`true` or `false`")),
        }
    }

    /// `proxyCPU` and `proxyMemory`, and what they are called with `suffix`.
    fn amounts(&self, suffix: &str) -> Result<Map<String, Value>, Malformed> {
        let mut amounts = Map::new();
        for (resource, called) in [("cpu", "CPU"), ("memory", "Memory")] {
            let name = format!("sidecar.istio.io/proxy{called}{suffix}");
            let Some(amount) = self.text(&name) else { continue };
            if !is_quantity(amount) {
                return Err(malformed(&name, amount, "an amount such as 500m, 1.5 or 128Mi"));
            }
            amounts.insert(resource.to_owned(), amount.into());
        }
        Ok(amounts)
    }

    /// Objects with names: a list of them, or a map by their names.
    fn named(&self, name: &str) -> Result<Vec<Value>, Malformed> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        let wanted = "JSON of objects by their names";
        match serde_json::from_str(text).map_err(|_| malformed(name, text, wanted))? {
            Value::Array(list) if list.iter().all(|object| object.get("name").is_some_and(Value::is_string)) => {
                Ok(list)
            }
            Value::Object(map) if map.values().all(Value::is_object) => {
                let named = map.into_iter().map(|(name, object)| {
                    let mut named = Map::from_iter([("name".to_owned(), Value::from(name))]);
                    named.extend(object.as_object().cloned().unwrap_or_default());
                    named.into()
                });
                Ok(named.collect())
            }
            _ => Err(malformed(name, text, wanted)),
        }
    }

    /// A list, each item of which is `wanted`.
    fn list(&self, name: &str, wanted: &str, fits: fn(&str) -> bool) -> Result<Option<&'a str>, Malformed> {
        let Some(text) = self.0.annotation(name) else { return Ok(None) };
        let mut items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        match items.find(|item| !fits(item)) {
            Some(item) => Err(malformed(name, item, wanted)),
            None => Ok(Some(text.trim())),
        }
    }

    /// A list, or all.
    fn list_or_all(&self, name: &str, wanted: &str, fits: fn(&str) -> bool) -> Result<&'a str, Malformed> {
        if self.text(name) == Some("*") {
            return Ok("*");
        }
        Ok(self.list(name, wanted, fits)?.unwrap_or("*"))
    }
}

fn malformed(annotation: &str, value: &str, wanted: &str) -> Malformed {
    Malformed { annotation: annotation.to_owned(), value: value.to_owned(), wanted: wanted.to_owned() }
}

/// What goes through the sidecar and what does not, in the order of Istio's template.
fn ports_and_ranges(said: &Said<'_>) -> Result<Vec<String>, Malformed> {
    const PORTS: &str = "a list of ports";
    const RANGES: &str = "a list of networks such as 10.0.0.0/8";
    let of = |name: &str| format!("traffic.sidecar.istio.io/{name}");
    let ranges = said.list_or_all(&of("includeOutboundIPRanges"), RANGES, is_network)?;
    let inbound = said.list_or_all(&of("includeInboundPorts"), PORTS, is_port)?;
    let mut excluded = OWN_PORTS.to_owned();
    if let Some(more) = said.list(&of("excludeInboundPorts"), PORTS, is_port)?.filter(|more| !more.is_empty()) {
        excluded.push(',');
        excluded.push_str(more);
    }
    let mut flags = vec![("-i", ranges.to_owned()), ("-b", inbound.to_owned()), ("-d", excluded)];
    let excluded = said.list(&of("excludeOutboundIPRanges"), RANGES, is_network)?;
    flags.extend(not_empty("-x", excluded));
    for (flag, name) in [("-q", "includeOutboundPorts"), ("-o", "excludeOutboundPorts")] {
        flags.extend(not_empty(flag, said.list(&of(name), PORTS, is_port)?));
    }
    Ok(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect())
}

fn not_empty(flag: &'static str, list: Option<&str>) -> Option<(&'static str, String)> {
    list.filter(|list| !list.is_empty()).map(|list| (flag, list.to_owned()))
}

fn interfaces(said: &Said<'_>) -> Result<Vec<String>, Malformed> {
    const NAMES: &str = "a list of names of interfaces";
    let mut flags = Vec::new();
    let excluded = said.list("traffic.sidecar.istio.io/excludeInterfaces", NAMES, is_interface)?;
    // The second is the older name of the first.
    let rerouted = match said.list("istio.io/reroute-virtual-interfaces", NAMES, is_interface)? {
        Some(names) => Some(names),
        None => said.list("traffic.sidecar.istio.io/kubevirtInterfaces", NAMES, is_interface)?,
    };
    for (flag, names) in [("-c", excluded), ("-k", rerouted)] {
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            flags.extend([flag.to_owned(), names.to_owned()]);
        }
    }
    Ok(flags)
}

fn interception(said: &Said<'_>, warnings: &mut Vec<String>) -> Result<Interception, Malformed> {
    const NAME: &str = "sidecar.istio.io/interceptionMode";
    match said.text(NAME) {
        None | Some("REDIRECT") => Ok(Interception::Redirect),
        Some("NONE") => Ok(Interception::None),
        Some("TPROXY") => {
            warnings.push(format!("annotation `{NAME}`: TPROXY is not there; connections are led by REDIRECT"));
            Ok(Interception::Redirect)
        }
        Some(other) => Err(malformed(NAME, other, "REDIRECT or NONE")),
    }
}

/// Of the annotation, on top of the mesh's.
fn proxy_config(
    said: &Said<'_>,
    defaults: &ProxyConfig,
    warnings: &mut Vec<String>,
) -> Result<(ProxyConfig, Option<String>), Malformed> {
    const NAME: &str = "proxy.istio.io/config";
    let Some(text) = said.text(NAME) else { return Ok((defaults.clone(), None)) };
    let wanted = |error: &dyn std::fmt::Display| malformed(NAME, text, &format!("a ProxyConfig: {error}"));
    let own: ProxyConfig = serde_saphyr::from_str(text).map_err(|error| wanted(&error))?;
    let json: Value = serde_saphyr::from_str(text).map_err(|error| wanted(&error))?;
    let unheard = json.as_object().into_iter().flatten().map(|(field, _)| &**field);
    let mut unheard: Vec<&str> = unheard.filter(|field| !HEARD.contains(field)).collect();
    unheard.sort_unstable();
    if !unheard.is_empty() {
        warnings.push(format!("annotation `{NAME}`: {} has no effect", unheard.join(", ")));
    }
    let mut all = defaults.clone();
    all.concurrency = own.concurrency.or(all.concurrency);
    all.hold_application_until_proxy_starts =
        own.hold_application_until_proxy_starts.or(all.hold_application_until_proxy_starts);
    all.termination_drain_duration = own.termination_drain_duration.or(all.termination_drain_duration);
    all.proxy_metadata.extend(own.proxy_metadata);
    Ok((all, Some(json.to_string())))
}

/// Istio's names for levels, beside ours.
fn log_level(text: &str) -> Result<String, Malformed> {
    let level = match text {
        "trace" | "debug" | "info" | "warn" | "error" | "off" => text,
        "warning" => "warn",
        "critical" => "error",
        other => {
            let wanted = "a level: trace, debug, info, warning, error, critical or off";
            return Err(malformed("sidecar.istio.io/logLevel", other, wanted));
        }
    };
    Ok(level.to_owned())
}

fn is_port(item: &str) -> bool {
    item.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_network(item: &str) -> bool {
    item.parse::<IpNet>().is_ok() || item.parse::<std::net::IpAddr>().is_ok()
}

fn is_interface(item: &str) -> bool {
    !item.starts_with('-') && item.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:@+".contains(c))
}

/// A number that is not negative, with a unit of Kubernetes or an exponent or neither.
pub fn is_quantity(text: &str) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let units = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let is_exponent = || unit.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i8>().is_ok());
    number.parse::<f64>().is_ok() && (units.contains(&unit) || is_exponent())
}

#[cfg(test)]
#[path = "wishes_tests.rs"]
mod tests;
