//! Proxies that get the same answer: it is translated and encoded once for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mesh_core::api::kube::Pod;
use mesh_core::api::{PROXY_CONFIG, ProxyConfig, Topology};
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{IpFamilies, Key, ProxyInfo, ProxySettings, ResourceSet, Role, SecretAccess};
use mesh_core::object::ObjectRef;
use mesh_core::translate::{Concerned, Translator};
use mesh_core::wire::{Publication, Published};
use mesh_core::world::{Entry, World, with_topology};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Observed;
use super::incomplete::{Missing, missing};
use crate::push::Account;

/// Labels that tell the pods of one owner, or its versions, apart, and those that say where a pod is. They select nothing of ours.
const IDLE_LABELS: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    // Kubernetes copies these from the node.
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Annotation of pods that a sidecar was added to.
const INJECTED: &str = "sidecar.istio.io/status";

/// What translation looks at in a proxy: those that agree in it get the same answer. The rest of what is known of a proxy stays
/// out of its class, or every zone would cost a translation: its locality (endpoints carry theirs, and what is near is the
/// proxy's own affair) and its addresses (only their families matter).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClassKey {
    pub role: Role,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub families: IpFamilies,
    pub dns_capture: bool,
    /// Of a gateway's pod: its annotation [`PROXY_CONFIG`]. At sidecars nothing of it is heard here.
    pub config: Option<String>,
    /// Of a sidecar: the account that was authenticated, whose rights say what it is given. Pods that differ in it alone are rare.
    pub account: Option<String>,
}

impl ClassKey {
    /// Of the proxy in this pod: it is a sidecar if one was added, whatever the proxy says of itself.
    pub fn of(pod: &Entry<Pod>) -> ClassKey {
        let labels = pod.meta.labels.iter().filter(|(label, _)| !IDLE_LABELS.contains(&label.as_str()));
        let addresses: Vec<IpAddr> = pod.spec.addresses().collect();
        let annotations = &pod.meta.annotations;
        let role = if annotations.contains_key(INJECTED) { Role::Sidecar } else { Role::Edge };
        let config = annotations.get(PROXY_CONFIG).filter(|_| role == Role::Edge);
        ClassKey {
            role,
            config: config.cloned(),
            namespace: pod.reference.namespace.to_string(),
            labels: labels.map(|(label, value)| (label.clone(), value.clone())).collect(),
            families: IpFamilies::of(&addresses),
            dns_capture: pod.spec.dns_capture,
            account: None,
        }
    }

    /// Of a proxy that showed itself to be of this account, in this pod.
    pub fn of_member(pod: &Entry<Pod>, account: &Account) -> ClassKey {
        let key = ClassKey::of(pod);
        ClassKey { account: (key.role == Role::Sidecar).then(|| account.name.clone()), ..key }
    }

    /// Whether a proxy that was of this class is of another one `now`. A pod that ends may lose its addresses first: that
    /// makes none of it.
    pub fn is_left(&self, now: &ClassKey) -> bool {
        let families = if now.families == IpFamilies::Unknown { self.families } else { now.families };
        *self != ClassKey { families, ..now.clone() }
    }
}

/// What proxies of one class are to have, and what was found out about it.
#[derive(Clone, Debug, Default)]
pub struct ClassState {
    /// Number of the class at this replica.
    pub class: u64,
    /// Of the world; the publication's is the same.
    pub generation: u64,
    pub published: Arc<Published>,
    pub set: Arc<ResourceSet>,
    /// What the set is made of and does not name.
    pub concerned: Concerned,
    pub diagnostics: Arc<[Diagnostic]>,
    /// `metadata.generation` of the objects that this holds.
    pub observed: Observed,
}

/// Why secrets of a namespace are not known. What a proxy has of them it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// They are not watched; the value of `gateway.namespaces` with which they are.
    Unwatched(String),
    /// They may not be listed, or were not yet.
    Unlisted,
}

pub(super) struct Class {
    number: u64,
    /// Why it is told nothing of secrets.
    unread: Option<Unread>,
    translator: Translator,
    /// What its gateways say of what stands in front of them.
    topology: Option<Topology>,
    /// What is wrong with how they say it.
    findings: Vec<Diagnostic>,
    publication: Publication,
    states: watch::Sender<Arc<ClassState>>,
    /// Since when nobody is there.
    deserted: Option<Instant>,
    /// What the diagnostics of the last publication were made of: what was found in the objects, and in the translation.
    said: [Arc<[Diagnostic]>; 2],
    /// What VirtualServices name and what does not exist, in what was published.
    missing: Missing,
    /// What its proxies ask for, each as long as its stream lasts.
    asked: Vec<(Weak<()>, BTreeSet<Key>)>,
}

impl Class {
    pub fn new(number: u64, proxy: ProxyInfo, unread: Option<Unread>) -> Class {
        Class::with(number, Translator::on_demand(proxy), unread)
    }

    /// Of no proxy: for what is wrong with objects that no sidecar asks for.
    pub fn of_nobody(number: u64, namespace: &str) -> Class {
        Class::with(number, Translator::of_nobody(namespace), None)
    }

    fn with(number: u64, translator: Translator, unread: Option<Unread>) -> Class {
        Class {
            number,
            publication: Publication::default(),
            unread,
            translator,
            topology: None,
            findings: Vec::new(),
            states: watch::Sender::new(Arc::default()),
            deserted: None,
            said: Default::default(),
            missing: Missing::new(),
            asked: Vec::new(),
        }
    }

    /// With settings of its pods' own, of which `pod` is the first: the text of [`PROXY_CONFIG`].
    pub fn configured(mut self, pod: &ObjectRef, text: Option<&str>) -> Class {
        let Some(text) = text else { return self };
        let (config, findings) = ProxyConfig::of_annotation(text);
        self.topology = config.gateway_topology;
        self.findings = findings.into_iter().map(|finding| finding.object(pod)).collect();
        self
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn proxy(&self) -> &ProxyInfo {
        self.translator.proxy()
    }

    /// Of sidecars; a gateway's rights are not asked for.
    pub fn account(&self) -> Option<Account> {
        let proxy = self.proxy();
        let is_sidecar = proxy.role == Role::Sidecar;
        is_sidecar.then(|| Account { namespace: proxy.namespace.clone(), name: proxy.service_account.clone() })
    }

    /// Whether rules name secrets for its sidecars that can be read here.
    pub fn wants_secrets(&self) -> bool {
        self.unread.is_none() && self.translator.names_secrets()
    }

    /// What is known of the rights of its sidecars' account, and whether the secrets of its namespace are not listed. Whether what
    /// they are told follows from something else now; [`Class::translate`] is next then.
    pub fn give_secrets(&mut self, access: SecretAccess, unlisted: bool) -> bool {
        if !matches!(self.unread, Some(Unread::Unwatched(_))) {
            self.unread = unlisted.then_some(Unread::Unlisted);
        }
        let access = if self.unread.is_some() { SecretAccess::Unread } else { access };
        self.translator.give_secrets(access) && self.translator.names_secrets()
    }

    pub fn state(&self) -> Arc<ClassState> {
        self.states.borrow().clone()
    }

    pub fn subscribe(&mut self) -> watch::Receiver<Arc<ClassState>> {
        self.deserted = None;
        self.states.subscribe()
    }

    /// Whether somebody is there, or was a moment ago.
    pub fn is_wanted(&mut self, linger: Duration) -> bool {
        if self.states.receiver_count() > 0 {
            self.deserted = None;
            return true;
        }
        self.deserted.get_or_insert_with(Instant::now).elapsed() < linger
    }

    /// The proxy of this stream asks for these names now. Whether anything is different; [`Class::translate`] follows.
    pub fn ask(&mut self, stream: &Arc<()>, names: BTreeSet<Key>) -> bool {
        let token = Arc::downgrade(stream);
        self.asked.retain(|(other, _)| !other.ptr_eq(&token));
        self.asked.push((token, names));
        self.sum_up()
    }

    /// What is asked for by those who are still there. Whether anything is different.
    pub fn sum_up(&mut self) -> bool {
        self.asked.retain(|(stream, _)| stream.strong_count() > 0);
        if self.asked.is_empty() {
            // Who comes back in a moment finds what it had.
            return false;
        }
        self.translator.ask(self.asked.iter().flat_map(|(_, names)| names).cloned().collect())
    }

    /// To be followed by [`Class::publish`], unless the world is changed once more.
    pub fn translate(&mut self, world: &World) {
        self.translator.update(world);
    }

    /// VirtualServices that lack something that they did not lack in what was published.
    pub fn newly_missing(&self) -> Vec<ObjectRef> {
        let [_, before] = &self.said;
        if Arc::ptr_eq(before, self.translator.diagnostics()) {
            return Vec::new();
        }
        let missing = missing(self.translator.diagnostics());
        missing.difference(&self.missing).map(|(name, _, _)| name.clone()).collect()
    }

    /// Makes the translation known. `found` was found in the objects.
    pub fn publish(
        &mut self,
        settings: &ProxySettings,
        generation: u64,
        observed: &Observed,
        found: &Arc<[Diagnostic]>,
    ) {
        let set = self.translator.set().clone();
        let own = self.topology.as_ref().map(|own| with_topology(settings, own));
        let settings = own.as_ref().unwrap_or(settings);
        // What depends on a right that is not known is not taken away: it may exist.
        let access = self.proxy().secrets;
        let withheld = self.translator.names_secrets() && !access.is_known();
        self.publication.leave_secrets(self.unread.is_some() || withheld, withheld && access == SecretAccess::Pending);
        let published = match self.publication.update(set.clone(), settings, generation) {
            Ok(published) => published,
            Err(error) => {
                tracing::error!(%error, "the configuration cannot be encoded; proxies keep the last one");
                return;
            }
        };
        let diagnostics = self.diagnostics(found);
        self.states.send_replace(Arc::new(ClassState {
            class: self.number,
            generation,
            published,
            set,
            concerned: self.translator.concerned().clone(),
            diagnostics,
            observed: observed.clone(),
        }));
    }

    fn diagnostics(&mut self, found: &Arc<[Diagnostic]>) -> Arc<[Diagnostic]> {
        let translated = self.translator.diagnostics();
        let [found_before, translated_before] = &self.said;
        if Arc::ptr_eq(found, found_before) && Arc::ptr_eq(translated, translated_before) {
            return self.states.borrow().diagnostics.clone();
        }
        self.missing = missing(translated);
        let proxy = self.translator.proxy();
        let without_place = translated.iter().map(|diagnostic| {
            let mut diagnostic = Diagnostic { position: None, ..diagnostic.clone() };
            if let Some(unread) = self.unread.as_ref().filter(|_| diagnostic.code == diag::SECRET_MISSING.id) {
                unread.amend(proxy, &mut diagnostic);
            }
            diagnostic
        });
        let all = found.iter().chain(&self.findings).cloned().chain(without_place).collect();
        self.said = [found.clone(), translated.clone()];
        all
    }
}

impl Unread {
    /// It may exist.
    fn amend(&self, proxy: &ProxyInfo, diagnostic: &mut Diagnostic) {
        let namespace = &proxy.namespace;
        let who = if proxy.role == Role::Edge { "gateways" } else { "sidecars" };
        let kept = format!("{who} keep the certificates that they have, and are given no others");
        (diagnostic.message, diagnostic.help) = match self {
            Unread::Unwatched(value) => (
                format!(
                    "not watched: gateway.namespaces lacks `{namespace}`, so the controller reads no secrets there; {kept}"
                ),
                Some(format!("`meshctl install --set gateway.namespaces={value}` lets it")),
            ),
            Unread::Unlisted => (
                format!("not known: the controller may not list the secrets of namespace `{namespace}`; {kept}"),
                Some(
                    "`meshctl install` gives it the right; /ready and /debug/diagnostics of it say what it lacks"
                        .to_owned(),
                ),
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use mesh_core::api;

    use super::*;

    #[test]
    fn a_pod_that_a_sidecar_was_put_into_has_one() {
        let class = |annotations: &str| {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, annotations: {{{annotations}}}}}\nspec: {{containers: []}}\n"
            );
            let world = World::from_objects(api::parse("", &pod, "ns").objects);
            ClassKey::of(world.pod("ns", "p").unwrap())
        };
        assert_eq!(class("").role, Role::Edge);
        let injected = class("sidecar.istio.io/status: '{}'");
        assert_eq!(injected.role, Role::Sidecar);
        assert!(class("").is_left(&injected));
    }

    #[test]
    fn a_gateway_says_itself_what_stands_in_front_of_it() {
        let key = |annotations: &str| {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, annotations: {{{annotations}}}}}\nspec: {{containers: []}}\n"
            );
            let world = World::from_objects(api::parse("", &pod, "ns").objects);
            ClassKey::of(world.pod("ns", "p").unwrap())
        };
        let said =
            "proxy.istio.io/config: '{gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND}}'";
        let own = key(said);
        assert!(key("").is_left(&own));
        assert_eq!(key(&format!("sidecar.istio.io/status: '{{}}', {said}")).config, None);
        let proxy = ProxyInfo::edge("p", "ns", BTreeMap::new());
        let pod = ObjectRef::new("Pod", "ns", "p");
        let class = Class::new(1, proxy, None).configured(&pod, own.config.as_deref());
        let mesh = ProxySettings { trusted_proxies: 1, proxy_protocol: true, ..ProxySettings::default() };
        let settings = with_topology(&mesh, class.topology.as_ref().unwrap());
        assert_eq!(settings, ProxySettings { trusted_proxies: 2, ..mesh });
        let found: Vec<String> = class.findings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1);
        let place = "error[MESH0003] Pod/ns/p metadata.annotations[proxy.istio.io/config].gatewayTopology.forwardClientCertDetails: ";
        assert!(found[0].starts_with(place), "{found:?}");
    }

    #[test]
    fn who_answers_for_names_is_of_a_class_of_his_own() {
        let class = |containers: &str| {
            let pod =
                format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns}}\nspec: {{{containers}}}\n");
            let world = World::from_objects(api::parse("", &pod, "ns").objects);
            ClassKey::of(world.pod("ns", "p").unwrap())
        };
        let env = |value: &str| format!("env: [{{name: ISTIO_META_DNS_CAPTURE, value: '{value}'}}]");
        let without = class("containers: [{name: istio-proxy}]");
        for (containers, captures) in [
            (format!("containers: [{{name: istio-proxy, {}}}]", env("true")), true),
            (format!("containers: [{{name: app}}], initContainers: [{{name: istio-proxy, {}}}]", env("true")), true),
            (format!("containers: [{{name: istio-proxy, {}}}]", env("false")), false),
            (format!("containers: [{{name: app, {}}}]", env("true")), false),
        ] {
            assert_eq!(class(&containers).dns_capture, captures, "{containers}");
            assert_eq!(without.is_left(&class(&containers)), captures, "{containers}");
        }
    }
}
