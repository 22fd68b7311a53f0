//! Who asks for configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::IpFamilies;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// A gateway at the edge: it serves the Gateways whose selector fits its labels.
    Edge,
    Sidecar,
}

/// Whether a proxy is given secrets of its namespace that rules name for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SecretAccess {
    Allowed,
    /// Its account may not read them.
    Denied,
    /// That is being asked.
    Pending,
    /// Nobody here reads those of its namespace.
    Unread,
    /// That cannot be found out.
    #[default]
    Unknown,
}

impl SecretAccess {
    /// Whether what follows from it is the last word.
    pub fn is_known(self) -> bool {
        matches!(self, SecretAccess::Allowed | SecretAccess::Denied)
    }
}

/// What `translate` must know of the proxy that it works for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyInfo {
    pub id: String,
    pub role: Role,
    pub namespace: String,
    /// Labels of the proxy's pod; `spec.selector` of a Gateway is compared with them.
    pub labels: BTreeMap<String, String>,
    pub service_account: String,
    /// `region/zone/subzone`, empty when unknown.
    pub locality: String,
    /// Name of the node that it runs on, empty when unknown.
    #[serde(default)]
    pub node: String,
    /// Of its addresses, which themselves decide nothing: they are different in every pod of a class.
    pub families: IpFamilies,
    /// The proxy answers the workload's queries for names: only then do automatic addresses count.
    #[serde(default)]
    pub dns_capture: bool,
    /// It orders certificates for its servers itself (ACME), where Gateways ask for that; else the controller does.
    #[serde(default)]
    pub orders: bool,
    #[serde(default)]
    pub secrets: SecretAccess,
}

impl ProxyInfo {
    /// A gateway at the edge, of which no more is known than where it is and what it is labelled. Whoever may run one in a
    /// namespace may read its secrets.
    pub fn edge(id: &str, namespace: &str, labels: BTreeMap<String, String>) -> ProxyInfo {
        ProxyInfo {
            id: id.to_owned(),
            role: Role::Edge,
            namespace: namespace.to_owned(),
            labels,
            service_account: "default".to_owned(),
            locality: String::new(),
            node: String::new(),
            families: IpFamilies::Unknown,
            dns_capture: false,
            orders: false,
            secrets: SecretAccess::Allowed,
        }
    }
}
