//! Pods whose proxies are connected to this replica: what they were when they came. A proxy that is another one now, or none, must
//! not go on as the one that was authenticated.

use std::collections::{BTreeMap, HashMap};

use mesh_core::api::kube::Pod;
use mesh_core::object::ObjectRef;
use mesh_core::world::Entry;
use tokio::sync::watch;

/// Labels that tell the pods of one owner, or its versions, apart. They select nothing of ours.
const OWNERS_LABELS: [&str; 5] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// Why a proxy is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    Deleted,
    /// Another pod has its name.
    Replaced,
    /// It may belong to another class.
    Relabelled,
}

/// Becomes a value when the proxy must come again, or stay away.
pub type Leaving = watch::Receiver<Option<Departure>>;

#[derive(Default)]
pub(super) struct Members {
    pods: HashMap<ObjectRef, Member>,
}

struct Member {
    uid: Option<String>,
    labels: BTreeMap<String, String>,
    leaving: watch::Sender<Option<Departure>>,
}

impl Members {
    /// Of a pod as it is now.
    pub fn add(&mut self, pod: &Entry<Pod>) -> Leaving {
        let member = self.pods.entry(pod.reference.clone()).or_insert_with(|| Member {
            uid: pod.spec.uid.clone(),
            labels: class_labels(pod),
            leaving: watch::Sender::new(None),
        });
        member.leaving.subscribe()
    }

    pub fn has(&self, name: &ObjectRef) -> bool {
        self.pods.contains_key(name)
    }

    /// To be told of every pod that is a member and not what it was.
    pub fn look(&mut self, name: &ObjectRef, pod: Option<&Entry<Pod>>) {
        let Some(member) = self.pods.get(name) else { return };
        let departure = match pod {
            None => Departure::Deleted,
            Some(pod) if pod.spec.uid != member.uid => Departure::Replaced,
            Some(pod) if class_labels(pod) != member.labels => Departure::Relabelled,
            Some(_) => return,
        };
        member.leaving.send_replace(Some(departure));
        self.pods.remove(name);
    }

    /// Forgets those that left by themselves.
    pub fn sweep(&mut self) {
        self.pods.retain(|_, member| member.leaving.receiver_count() > 0);
    }
}

/// Those that may select something.
pub(super) fn class_labels(pod: &Entry<Pod>) -> BTreeMap<String, String> {
    let labels = pod.meta.labels.iter().filter(|(label, _)| !OWNERS_LABELS.contains(&label.as_str()));
    labels.map(|(label, value)| (label.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use mesh_core::api;
    use mesh_core::world::World;

    use super::*;

    fn world(uid: &str, labels: &str) -> World {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, uid: {uid}, labels: {{{labels}}}}}\nspec: {{containers: []}}\n"
        );
        World::from_objects(api::parse("", &pod, "ns").objects)
    }

    #[test]
    fn a_pod_that_is_not_what_it_was_leaves() {
        let name = ObjectRef::new("Pod", "ns", "p");
        let after = |world: &World| {
            let mut members = Members::default();
            let leaving = members.add(self::world("a", "app: x, pod-template-hash: h1").pod("ns", "p").unwrap());
            members.look(&name, world.pod("ns", "p").map(|pod| &**pod));
            assert_eq!(members.has(&name), leaving.borrow().is_none());
            *leaving.borrow()
        };
        assert_eq!(after(&world("a", "app: x, pod-template-hash: h2")), None);
        assert_eq!(after(&world("a", "app: y")), Some(Departure::Relabelled));
        assert_eq!(after(&world("b", "app: x")), Some(Departure::Replaced));
        assert_eq!(after(&World::default()), Some(Departure::Deleted));
    }

    #[test]
    fn who_left_by_itself_is_forgotten() {
        let world = world("a", "app: x");
        let mut members = Members::default();
        let pod = world.pod("ns", "p").unwrap();
        let (first, second) = (members.add(pod), members.add(pod));
        drop(first);
        members.sweep();
        assert!(members.has(&pod.reference));
        drop(second);
        members.sweep();
        assert!(!members.has(&pod.reference));
    }
}
