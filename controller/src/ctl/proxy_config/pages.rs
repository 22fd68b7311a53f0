//! The admin pages of a proxy, as far as they are looked at.

use std::collections::BTreeMap;

use mesh_core::model::{Destination, DnsName, Key, Listener, RouteSet, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Filter, What};
use crate::ctl::exit::Failure;

/// As they were answered; null where a page was not asked for.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// `/config_dump`
    pub dump: Value,
    /// `/listeners?format=json`
    pub listeners: Value,
    /// `/clusters?format=json`
    pub clusters: Value,
    /// `/certs`
    pub certificates: Value,
}

/// A listener that is open.
#[derive(Clone, Debug, Deserialize)]
pub struct Open {
    pub key: String,
    pub state: String,
    pub counts: Counts,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Counts {
    pub open: u64,
    pub accepted: u64,
}

/// A cluster that is served.
#[derive(Clone, Debug, Deserialize)]
pub struct Cluster {
    pub key: String,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Endpoint {
    pub address: String,
    pub name: Option<String>,
    pub weight: u32,
    #[serde(default)]
    pub locality: String,
    pub workload: Option<String>,
    #[serde(default)]
    pub ejected: bool,
    pub requests_active: u64,
    pub requests_total: u64,
    pub connections: Connections,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Connections {
    pub active: u64,
    pub idle: u64,
    pub connect_failures: u64,
}

/// A certificate that is served.
#[derive(Clone, Debug, Deserialize)]
pub struct Certificate {
    pub source: String,
    #[serde(default)]
    pub subject: String,
    pub san: Vec<String>,
    pub serial: String,
    pub not_before: i64,
    pub not_after: i64,
    pub key_type: String,
}

/// Who the proxy is in the mesh, and whom it believes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Workload {
    pub roots: Vec<Root>,
    pub certificate: Option<OwnCertificate>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Root {
    pub serial: String,
    /// A proxy that is older does not say it.
    pub not_before: Option<i64>,
    pub not_after: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct OwnCertificate {
    pub id: String,
    pub serial: String,
    pub not_before: i64,
    pub not_after: i64,
    pub key_type: String,
}

fn typed<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| {
        let about = "the proxy may be of another version; -o json shows what it says";
        Failure::BadData(format!("{what}: {error}; {about}"))
    })
}

fn part<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

impl Pages {
    pub fn listeners(&self) -> Result<BTreeMap<Key, Listener>, Failure> {
        typed(part(&self.dump, "listeners"), "listeners")
    }

    pub fn open_listeners(&self) -> Result<Vec<Open>, Failure> {
        typed(part(&self.listeners, "listeners"), "open listeners")
    }

    pub fn routes(&self) -> Result<BTreeMap<Key, RouteSet>, Failure> {
        typed(part(&self.dump, "routes"), "routes")
    }

    pub fn destinations(&self) -> Result<BTreeMap<Key, Destination>, Failure> {
        typed(part(&self.dump, "destinations"), "destinations")
    }

    pub fn secrets(&self) -> Result<BTreeMap<Key, Secret>, Failure> {
        typed(part(&self.dump, "secrets"), "secrets")
    }

    /// A proxy of a version that answers for none says nothing of them.
    pub fn names(&self) -> Result<BTreeMap<Key, DnsName>, Failure> {
        self.dump.get("dns").map_or_else(|| Ok(BTreeMap::new()), |names| typed(names, "names"))
    }

    pub fn clusters(&self) -> Result<Vec<Cluster>, Failure> {
        typed(self.cluster_list(), "clusters")
    }

    pub fn certificates(&self) -> Result<Vec<Certificate>, Failure> {
        typed(part(&self.certificates, "certificates"), "certificates")
    }

    /// CAs that clients are verified with. A proxy of a version that verifies none says nothing of them.
    pub fn authorities(&self) -> Result<Vec<Certificate>, Failure> {
        match part(&self.certificates, "authorities") {
            Value::Null => Ok(Vec::new()),
            authorities => typed(authorities, "authorities"),
        }
    }

    /// Of a proxy without an identity there is nothing.
    pub fn workload(&self) -> Result<Workload, Failure> {
        match part(&self.certificates, "workload") {
            Value::Null => Ok(Workload::default()),
            workload => typed(workload, "workload"),
        }
    }

    fn cluster_list(&self) -> &Value {
        self.clusters.get("clusters").unwrap_or(&self.clusters)
    }

    /// For programs: as the proxy says it, without what the filter leaves out.
    pub fn raw(&self, what: What, filter: &Filter) -> Result<Value, Failure> {
        Ok(match what {
            What::Listeners => keep(part(&self.dump, "listeners"), |_, listener| {
                filter.port.is_none_or(|port| listener.get("port").and_then(Value::as_u64) == Some(port.into()))
            }),
            What::Routes => {
                let mut routes = part(&self.dump, "routes").clone();
                if let Some(wanted) = &filter.host {
                    let mut typed = self.routes()?;
                    typed
                        .values_mut()
                        .for_each(|set| set.virtual_hosts.retain(|host| host.host.to_string() == *wanted));
                    typed.retain(|_, set| !set.virtual_hosts.is_empty());
                    routes = serde_json::to_value(typed).map_err(|error| Failure::BadData(error.to_string()))?;
                }
                routes
            }
            What::Clusters | What::Endpoints => {
                let wanted = self.destinations()?;
                let takes =
                    |key: &str| wanted.get(key).is_some_and(|destination| filter.takes_destination(destination));
                if what == What::Clusters {
                    keep(part(&self.dump, "destinations"), |key, _| takes(key))
                } else {
                    let list = self.cluster_list().as_array().cloned().unwrap_or_default();
                    let key =
                        |cluster: &Value| cluster.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
                    list.into_iter().filter(|cluster| takes(&key(cluster))).collect()
                }
            }
            What::Secrets => self.certificates.clone(),
            What::Names => {
                keep(part(&self.dump, "dns"), |key, _| filter.host.as_ref().is_none_or(|wanted| wanted == key))
            }
            What::All => self.dump.clone(),
        })
    }
}

fn keep(value: &Value, takes: impl Fn(&str, &Value) -> bool) -> Value {
    let entries = value.as_object().into_iter().flatten().filter(|(key, value)| takes(key, value));
    Value::Object(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
}
