//! `Service` (v1): its `spec`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `ClusterIP` if absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `None` for headless services.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    pub external_name: Option<String>,
    #[serde(default, rename = "externalIPs")]
    pub external_ips: Vec<String>,
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: Option<bool>,
    pub session_affinity: Option<String>,
    pub internal_traffic_policy: Option<String>,
    pub traffic_distribution: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    #[serde(default)]
    pub name: String,
    /// `TCP` if absent.
    pub protocol: Option<String>,
    pub app_protocol: Option<String>,
    pub port: u16,
    /// Absent: the same as `port`.
    pub target_port: Option<IntOrString>,
    pub node_port: Option<u16>,
}

/// A port number, or the name of a container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    Int(u16),
    String(String),
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntOrStringVisitor;
        impl Visitor<'_> for IntOrStringVisitor {
            type Value = IntOrString;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port number or a port's name")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<IntOrString, E> {
                u16::try_from(value)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<IntOrString, E> {
                Ok(text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int))
            }
        }
        deserializer.deserialize_any(IntOrStringVisitor)
    }
}
