//! The root certificate in every namespace, where proxies expect it: ConfigMap `istio-ca-root-cert`, key `root-cert.pem`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Leadership;

/// Everything is looked at again so often, for others may have changed it; after a failure, sooner.
const AGAIN: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(5));

/// Name of the ConfigMap.
pub const ROOTS: &str = "istio-ca-root-cert";

/// Label by which all that is ours is found again.
pub const OURS: (&str, &str) = ("app.kubernetes.io/part-of", "meshgate");

/// Writes it while this replica leads, wherever a namespace appears, and anew when there are other roots.
pub async fn publish_roots(client: Client, mut roots: watch::Receiver<String>, mut leadership: Leadership) {
    loop {
        let Some(_term) = leadership.lead().await else { return };
        let root_pem = roots.borrow_and_update().clone();
        let events = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()).default_backoff();
        futures::pin_mut!(events);
        let mut again = Instant::now() + AGAIN.0;
        loop {
            tokio::select! {
                biased;
                () = leadership.lost() => break,
                event = events.next() => match event {
                    Some(Ok(Event::Apply(namespace) | Event::InitApply(namespace))) => {
                        let ending = namespace.metadata.deletion_timestamp.is_some();
                        if !ending && let Err(error) = publish(&client, &namespace.name_any(), &root_pem).await {
                            tracing::warn!(namespace = namespace.name_any(), %error, "cannot write the root certificate");
                            again = again.min(Instant::now() + AGAIN.1);
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::debug!(%error, "watch of namespaces"),
                    None => break,
                },
                Ok(()) = roots.changed() => break,
                () = sleep_until(again) => break,
            }
        }
    }
}

async fn publish(client: &Client, namespace: &str, root_pem: &str) -> kube::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let wanted = BTreeMap::from([("root-cert.pem".to_owned(), root_pem.to_owned())]);
    if api.get_opt(ROOTS).await?.is_some_and(|map| map.data.as_ref() == Some(&wanted)) {
        return Ok(());
    }
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOTS.to_owned()),
            // Istio's, and the one by which all that is ours is found again.
            labels: Some(
                [("istio.io/config", "true"), OURS].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ),
            ..ObjectMeta::default()
        },
        data: Some(wanted),
        ..ConfigMap::default()
    };
    api.patch(ROOTS, &PatchParams::apply("meshgate-controller").force(), &Patch::Apply(&map)).await?;
    Ok(())
}
