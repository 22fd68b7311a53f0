//! The objects of a case in the API server: there, deleted, or refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use controller::kube::{KINDS, Scope};
use futures::future::join_all;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, ApiCapabilities};
use serde_json::Value;

use super::super::config::name_of;
use crate::cluster::apply_namespace;

/// Who wrote them.
const MANAGER: &str = "cases";

/// Why the API server does not take an object as it is.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// `Kind/namespace/name`
    pub object: String,
    pub message: String,
    /// It is there nevertheless: without the fields that nobody knows, or as it was before.
    pub is_there: bool,
}

/// See the module.
pub struct Objects {
    client: Client,
    /// Where the controller looks for secrets and settings.
    system: String,
    kinds: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
    namespaces: BTreeSet<String>,
    /// By `Kind/namespace/name`.
    there: BTreeMap<String, There>,
    deleted: BTreeSet<String>,
}

struct There {
    api: Api<DynamicObject>,
    name: String,
    /// `metadata.resourceVersion`: a number that grows.
    version: u64,
    /// The controller looks at it.
    watched: bool,
}

/// An object on its way.
struct Write {
    /// `Kind/namespace/name`
    key: String,
    api: Api<DynamicObject>,
    name: String,
    document: Value,
    watched: bool,
    is_new: bool,
}

impl Objects {
    pub fn new(client: Client, system: &str) -> Objects {
        Objects {
            client,
            system: system.to_owned(),
            kinds: HashMap::new(),
            namespaces: BTreeSet::from(["default".to_owned(), system.to_owned()]),
            there: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// All of them. Of two objects that are about the same the older one wins, and if the times say nothing the name does: what
    /// has times is made in this order, in seconds of their own, and the rest in the order of names, each kind for itself.
    pub async fn apply(&mut self, mut documents: Vec<Value>) -> anyhow::Result<Vec<Refusal>> {
        documents
            .sort_by(|one, other| (time(one), name_and_namespace(one)).cmp(&(time(other), name_and_namespace(other))));
        let mut refused = Vec::new();
        for (round, documents) in documents.chunk_by(|one, other| time(one) == time(other)).enumerate() {
            if round > 0 {
                another_second().await?;
            }
            let mut kinds: BTreeMap<&str, Vec<Write>> = BTreeMap::new();
            for document in documents {
                let key = name_of(document).context("an object without kind or name")?;
                match self.prepare(key.clone(), document).await? {
                    Ok(write) => kinds.entry(text(document, "/kind")).or_default().push(write),
                    Err(message) => refused.push(Refusal { object: key, message, is_there: false }),
                }
            }
            for done in join_all(kinds.into_values().map(run_all)).await {
                for (write, version, message) in done? {
                    let is_there = version.is_some() || !write.is_new;
                    refused.extend(message.map(|message| Refusal { object: write.key.clone(), message, is_there }));
                    self.note(write, version);
                }
            }
        }
        Ok(refused)
    }

    fn note(&mut self, write: Write, version: Option<u64>) {
        let Write { key, api, name, watched, .. } = write;
        if let Some(version) = version {
            self.deleted.remove(&key);
            self.there.insert(key, There { api, name, version, watched });
        }
    }

    /// `Err`: there is no such kind.
    async fn prepare(&mut self, key: String, document: &Value) -> anyhow::Result<Result<Write, String>> {
        let version = text(document, "/apiVersion");
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, text(document, "/kind"));
        let (name, namespace) = name_and_namespace(document);
        let (name, namespace) = (name.to_owned(), namespace.to_owned());
        ensure!(document.get("status").is_none(), "{key}: a status cannot be applied");
        let (resource, capabilities) = match self.kinds.get(&kind) {
            Some(known) => known.clone(),
            None => match discovery::pinned_kind(&self.client, &kind).await {
                Ok(found) => self.kinds.entry(kind.clone()).or_insert(found).clone(),
                Err(error) => return Ok(Err(error.to_string())),
            },
        };
        let api = if capabilities.scope == discovery::Scope::Cluster {
            Api::all_with(self.client.clone(), &resource)
        } else {
            if !self.namespaces.contains(&namespace) {
                apply_namespace(&namespace)?;
                self.namespaces.insert(namespace.clone());
            }
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        };
        let watched = self.is_watched(&kind, &namespace, &name);
        let is_new = !self.there.contains_key(&key);
        Ok(Ok(Write { key, api, name, document: document.clone(), watched, is_new }))
    }

    fn is_watched(&self, kind: &GroupVersionKind, namespace: &str, name: &str) -> bool {
        let same = KINDS.iter().find(|watched| watched.group == kind.group && watched.kind == kind.kind);
        same.is_some_and(|watched| {
            let place = watched.scope == Scope::Everywhere || namespace == self.system;
            place && watched.fields.strip_prefix("metadata.name=").is_none_or(|only| only == name)
        })
    }

    /// `Kind/namespace/name`
    pub async fn delete(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut gone = Vec::new();
        for name in names {
            let there = self.there.remove(name).with_context(|| format!("there is no {name}"))?;
            if there.watched {
                self.deleted.insert(name.clone());
            }
            gone.push(there);
        }
        let deletions =
            gone.iter().map(|there| async { there.api.delete(&there.name, &DeleteParams::default()).await });
        for (result, there) in join_all(deletions).await.into_iter().zip(&gone) {
            result.with_context(|| format!("deleting {}", there.name))?;
        }
        Ok(())
    }

    /// Deletes what is there.
    pub async fn clear(&mut self) -> anyhow::Result<()> {
        let all: Vec<String> = self.there.keys().cloned().collect();
        self.delete(&all).await
    }

    /// Whether the controller's page of objects knows of all that was done, and waits for nothing more.
    pub fn are_in(&self, page: &Value) -> bool {
        let (Some(known), Some(waiting)) = (page.get("objects").and_then(Value::as_object), page.get("waiting")) else {
            return false;
        };
        let version =
            |key: &str| known.get(key).and_then(Value::as_str).and_then(|version| version.parse::<u64>().ok());
        let mut watched = self.there.iter().filter(|(_, there)| there.watched);
        waiting.as_array().is_some_and(Vec::is_empty)
            && watched.all(|(key, there)| version(key).is_some_and(|seen| seen >= there.version))
            && !self.deleted.iter().any(|key| known.contains_key(key))
    }

    pub fn forget_deleted(&mut self) {
        self.deleted.clear();
    }
}

impl Write {
    /// The version that is there now, and what the API server minds. Unknown fields it minds as `kubectl` lets it; without
    /// them the object is stored for other clients, and so it is here.
    async fn run(&self) -> anyhow::Result<(Option<u64>, Option<String>)> {
        let mut params = PatchParams::apply(MANAGER).force();
        params.field_validation = Some(ValidationDirective::Strict);
        let applied = self.api.patch(&self.name, &params, &Patch::Apply(&self.document)).await;
        let minds = match applied {
            Ok(object) => return Ok((Some(version(&object)?), None)),
            Err(error) => refusal(error)?,
        };
        if !self.is_new {
            return Ok((None, Some(minds)));
        }
        let object: DynamicObject = serde_json::from_value(self.document.clone())?;
        match self.api.create(&PostParams::default(), &object).await {
            Ok(object) => Ok((Some(version(&object)?), Some(minds))),
            Err(error) => refusal(error).map(|_| (None, Some(minds))),
        }
    }
}

/// One after the other; each with what [`Write::run`] yields.
async fn run_all(writes: Vec<Write>) -> anyhow::Result<Vec<(Write, Option<u64>, Option<String>)>> {
    let mut done = Vec::new();
    for write in writes {
        let (version, message) = write.run().await.with_context(|| write.key.clone())?;
        done.push((write, version, message));
    }
    Ok(done)
}

fn text<'d>(document: &'d Value, path: &str) -> &'d str {
    document.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// In files, without a time is oldest.
fn time(document: &Value) -> &str {
    text(document, "/metadata/creationTimestamp")
}

fn name_and_namespace(document: &Value) -> (&str, &str) {
    let namespace = document.pointer("/metadata/namespace").and_then(Value::as_str);
    (text(document, "/metadata/name"), namespace.unwrap_or("default"))
}

/// Until the clock, which is the API server's too, shows another one: ages have no fractions.
async fn another_second() -> anyhow::Result<()> {
    let past = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    tokio::time::sleep(Duration::from_secs(1).saturating_sub(Duration::from_nanos(past.into()))).await;
    Ok(())
}

/// What it says, if it is about the object.
fn refusal(error: kube::Error) -> anyhow::Result<String> {
    match error {
        kube::Error::Api(status) if [400, 404, 422, 500].contains(&status.code) => Ok(status.message.clone()),
        error => Err(error.into()),
    }
}

fn version(object: &DynamicObject) -> anyhow::Result<u64> {
    Ok(object.metadata.resource_version.as_deref().context("no resourceVersion")?.parse()?)
}
