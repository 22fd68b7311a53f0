//! The injector's settings as they are now. What is wrong with them leaves the last good ones in force.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::inject::{KEY, SETTINGS, Selection};

/// How long a pod waits for settings that nobody has seen yet: the API server waits no longer for us.
const PATIENCE: Duration = Duration::from_secs(3);

/// None: nobody has looked yet.
#[derive(Clone)]
pub struct CurrentSelection(watch::Receiver<Option<Arc<Selection>>>);

/// Where nobody has written any.
impl Default for CurrentSelection {
    fn default() -> CurrentSelection {
        CurrentSelection(watch::channel(Some(Arc::default())).1)
    }
}

impl CurrentSelection {
    /// Follows the ConfigMap of this namespace.
    #[must_use]
    pub fn follow(client: &Client, namespace: &str) -> CurrentSelection {
        let (tell, current) = watch::channel(None);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(async move {
            let only = watcher::Config::default().fields(&format!("metadata.name={SETTINGS}"));
            let events = watcher(maps, only).default_backoff();
            futures::pin_mut!(events);
            let mut listed = Arc::default();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => listed = Arc::default(),
                    Ok(Event::InitApply(map)) => listed = take(&map, tell.borrow().as_ref()),
                    Ok(Event::InitDone) => drop(tell.send_replace(Some(std::mem::take(&mut listed)))),
                    Ok(Event::Apply(map)) => {
                        let taken = take(&map, tell.borrow().as_ref());
                        tell.send_replace(Some(taken));
                    }
                    Ok(Event::Delete(_)) => drop(tell.send_replace(Some(Arc::default()))),
                    Err(error) => tracing::debug!(%error, "watch of the injector's settings"),
                }
            }
        });
        CurrentSelection(current)
    }

    pub(super) async fn get(&self) -> Arc<Selection> {
        let mut current = self.0.clone();
        let known = timeout(PATIENCE, current.wait_for(Option::is_some)).await;
        known.ok().and_then(|known| known.ok()?.clone()).unwrap_or_default()
    }
}

/// What the ConfigMap says; if that cannot be read, what it said before.
fn take(map: &ConfigMap, before: Option<&Arc<Selection>>) -> Arc<Selection> {
    let Some(text) = map.data.as_ref().and_then(|data| data.get(KEY)) else { return Arc::default() };
    match Selection::read(text) {
        Ok(selection) => Arc::new(selection),
        Err(error) => {
            tracing::error!("ConfigMap {SETTINGS}, `{KEY}`: {error}; what it said before stays in force");
            before.cloned().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let map =
            |text: &str| ConfigMap { data: Some([(KEY.to_owned(), text.to_owned())].into()), ..ConfigMap::default() };
        // As Istio writes it.
        let text = "policy: disabled\nalwaysInjectSelector:\n  []\nneverInjectSelector:\n- matchExpressions: [{ key: job, operator: Exists }]\ntemplates: { sidecar: '{{ x }}' }\n";
        let first = take(&map(text), None);
        assert_ne!(*first, Selection::default());
        assert!(Arc::ptr_eq(&take(&map("neverInjectSelector: 1"), Some(&first)), &first));
        assert_eq!(*take(&map("{}"), Some(&first)), Selection::default());
        assert_eq!(*take(&ConfigMap::default(), Some(&first)), Selection::default());
    }
}
