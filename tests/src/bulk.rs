//! Many VirtualServices at once, faster than `kubectl` makes them.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// Requests at a time.
const AT_A_TIME: usize = 32;

/// The VirtualServices of a namespace.
#[derive(Clone)]
pub struct Routes {
    api: Api<DynamicObject>,
    namespace: String,
    gateways: Vec<String>,
}

impl Routes {
    /// Of the API server that `kubectl` would ask; `gateways` as objects name them.
    pub async fn new(namespace: &str, gateways: &[&str]) -> anyhow::Result<Routes> {
        let client = controller::kube::connect(None, None).await?;
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        let resource = ApiResource { plural: "virtualservices".to_owned(), ..ApiResource::from_gvk(&kind) };
        let api = Api::namespaced_with(client, namespace, &resource);
        let gateways = gateways.iter().map(|&gateway| gateway.to_owned()).collect();
        Ok(Routes { api, namespace: namespace.to_owned(), gateways })
    }

    /// Makes `NAME.NAMESPACE.example` answer so.
    pub async fn apply(&self, name: &str, answer: &str) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": {
                "hosts": [self.host(name)],
                "gateways": self.gateways,
                "http": [{ "directResponse": { "status": 200, "body": { "string": answer } } }],
            },
        });
        let params = PatchParams::apply("bulk").force();
        let applied = self.api.patch(name, &params, &Patch::Apply(&object)).await;
        applied.map(drop).with_context(|| format!("applying {name}"))
    }

    /// Name and answer of each.
    pub async fn apply_all(&self, all: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<()> {
        let each = |(name, answer): (String, String)| async move { self.apply(&name, &answer).await };
        stream::iter(all.into_iter().map(each)).buffer_unordered(AT_A_TIME).try_collect().await
    }

    /// Writes a status as `manager`, whatever it was before.
    pub async fn merge_status(&self, name: &str, manager: &str, status: &Value) -> anyhow::Result<()> {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        let body = json!({ "status": status });
        let merged = self.api.patch_status(name, &params, &Patch::Merge(&body)).await;
        merged.map(drop).with_context(|| format!("status of {name}"))
    }

    /// The fields of a status that are `manager`'s, and no others.
    pub async fn apply_status(&self, name: &str, manager: &str, status: &Value) -> anyhow::Result<()> {
        let body = json!({ "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "status": status });
        let applied = self.api.patch_status(name, &PatchParams::apply(manager), &Patch::Apply(&body)).await;
        applied.map(drop).with_context(|| format!("status of {name}"))
    }

    pub async fn delete_all(&self, names: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let each = |name: String| async move {
            let deleted = self.api.delete(&name, &DeleteParams::default()).await;
            deleted.map(drop).with_context(|| format!("deleting {name}"))
        };
        stream::iter(names.into_iter().map(each)).buffer_unordered(AT_A_TIME).try_collect().await
    }

    /// All of the namespace.
    pub async fn clear(&self) -> anyhow::Result<()> {
        // One by one: a collection is one request, which takes as long as all of them.
        let list = self.api.list(&ListParams::default()).await?;
        self.delete_all(list.items.into_iter().filter_map(|object| object.metadata.name)).await
    }

    pub async fn get(&self, name: &str) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.api.get(name).await?)?)
    }

    pub async fn list(&self) -> anyhow::Result<Vec<Value>> {
        let list = self.api.list(&ListParams::default()).await?;
        list.items.into_iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
    }

    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}.example", self.namespace)
    }
}

/// A condition of an object.
pub fn condition<'o>(object: &'o Value, name: &str) -> Option<&'o Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition.get("type").is_some_and(|of| of == name))
}

/// Whether the condition is about the present generation, and what it says: status, reason, message.
pub fn says<'o>(object: &'o Value, name: &str) -> Option<(&'o str, &'o str, &'o str)> {
    let condition = condition(object, name)?;
    let is_current = condition.get("observedGeneration") == object.pointer("/metadata/generation");
    let text = |field: &str| condition.get(field).and_then(Value::as_str);
    Some((text("status")?, text("reason")?, text("message")?)).filter(|_| is_current)
}
