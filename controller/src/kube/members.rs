//! Pods whose proxies are connected to this replica: what they were when they came. A proxy that is another one now, or none, must
//! not go on as the one that was authenticated.

use std::collections::HashMap;

use mesh_core::api::kube::Pod;
use mesh_core::object::ObjectRef;
use mesh_core::world::Entry;
use tokio::sync::watch;

use super::class::ClassKey;

/// Why a proxy is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Or finished: its phase is `Succeeded` or `Failed`.
    Deleted,
    /// Another pod has its name.
    Replaced,
    /// It belongs to another class: its labels are different, or the families of its addresses.
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
    class: ClassKey,
    leaving: watch::Sender<Option<Departure>>,
}

impl Members {
    /// Of a pod as it is now.
    pub fn add(&mut self, pod: &Entry<Pod>) -> Leaving {
        let member = self.pods.entry(pod.reference.clone()).or_insert_with(|| Member {
            uid: pod.spec.uid.clone(),
            class: ClassKey::of(pod),
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
            // Its containers do not run any more, and will not again.
            Some(pod) if matches!(pod.spec.phase.as_deref(), Some("Succeeded" | "Failed")) => Departure::Deleted,
            Some(pod) if member.class.is_left(&ClassKey::of(pod)) => Departure::Relabelled,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use mesh_core::api;
    use mesh_core::world::World;

    use super::*;

    fn world(uid: &str, labels: &str) -> World {
        world_at(uid, labels, "")
    }

    fn world_at(uid: &str, labels: &str, addresses: &str) -> World {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, uid: {uid}, labels: {{{labels}}}}}\nspec: {{containers: []}}\nstatus: {{podIPs: [{addresses}]}}\n"
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
    fn where_a_pod_is_does_not_count_but_its_families_do() {
        let name = ObjectRef::new("Pod", "ns", "p");
        let four = "{ip: 10.0.0.1}";
        let after = |labels: &str, addresses: &str| {
            let mut members = Members::default();
            let leaving = members.add(world_at("a", "app: x", four).pod("ns", "p").unwrap());
            members.look(&name, world_at("a", labels, addresses).pod("ns", "p").map(|pod| &**pod));
            *leaving.borrow()
        };
        assert_eq!(after("app: x, topology.kubernetes.io/zone: z, topology.kubernetes.io/region: r", four), None);
        assert_eq!(after("app: x", "{ip: 10.0.0.2}"), None);
        assert_eq!(after("app: x", "{ip: 10.0.0.1}, {ip: 'fd00::1'}"), Some(Departure::Relabelled));
        assert_eq!(after("app: x", "{ip: 'fd00::1'}"), Some(Departure::Relabelled));
        // It ends.
        assert_eq!(after("app: x", ""), None);
        assert_eq!(after("app: y", ""), Some(Departure::Relabelled));
    }

    #[test]
    fn a_pod_that_finished_leaves() {
        let name = ObjectRef::new("Pod", "ns", "p");
        let at = |phase: &str| {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, uid: a}}\nspec: {{containers: []}}\nstatus: {{phase: {phase}}}\n"
            );
            World::from_objects(api::parse("", &pod, "ns").objects)
        };
        let after = |phase: &str| {
            let mut members = Members::default();
            let leaving = members.add(at("Running").pod("ns", "p").unwrap());
            members.look(&name, at(phase).pod("ns", "p").map(|pod| &**pod));
            *leaving.borrow()
        };
        assert_eq!(after("Running"), None);
        assert_eq!(after("Succeeded"), Some(Departure::Deleted));
        assert_eq!(after("Failed"), Some(Departure::Deleted));
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
