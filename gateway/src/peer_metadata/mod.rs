//! Where the two ends of a connection run, as the proxies of a mesh tell each other (Istio's metadata exchange): workload and
//! labels, for metrics; in headers of requests and answers, and before the first bytes of what is not HTTP ([`preamble`]).
//! Applications see nothing of it, and of it is believed what fits the identity of who says it.

pub mod preamble;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::model::Workload;
use prost::Message;

use crate::observe::SourceLabels;
use crate::tls::peer_verify::Identity;

static METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
static METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";

/// `google.protobuf.Struct`, as far as it is used here.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "3, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

impl Struct {
    fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, Kind)>) -> Struct {
        let fields = pairs.into_iter().map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
        Struct { fields: fields.collect() }
    }

    fn text(&self, name: &str) -> Arc<str> {
        match self.fields.get(name).and_then(|value| value.kind.as_ref()) {
            Some(Kind::Text(text)) => text.as_str().into(),
            _ => Arc::default(),
        }
    }
}

/// What this proxy says of its own workload. Made once.
#[derive(Clone, Debug)]
pub struct OwnMetadata {
    id: HeaderValue,
    value: HeaderValue,
    /// The same for bytes.
    preamble: Arc<[u8]>,
}

impl OwnMetadata {
    /// `id`: `sidecar~10.0.0.1~a.default~default.svc.cluster.local`. None if it cannot be said in a header.
    #[must_use]
    pub fn new(id: &str, own: &SourceLabels) -> Option<OwnMetadata> {
        let text = |text: &str| Kind::Text(text.to_owned());
        let labels = [
            ("app", own.app.as_str()),
            ("version", &own.version),
            (CANONICAL_NAME, &own.canonical_service),
            (CANONICAL_REVISION, &own.canonical_revision),
        ];
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, text(value)));
        let metadata = Struct::of([
            ("WORKLOAD_NAME", text(&own.workload)),
            ("NAMESPACE", text(&own.namespace)),
            ("CLUSTER_ID", text(&own.cluster)),
            ("LABELS", Kind::Struct(Struct::of(labels))),
        ]);
        let value = STANDARD.encode(metadata.encode_to_vec());
        Some(OwnMetadata {
            id: HeaderValue::from_str(id).ok()?,
            value: HeaderValue::try_from(value).ok()?,
            preamble: preamble::of(id, metadata).into(),
        })
    }

    /// To a proxy of the mesh.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(&METADATA_ID, self.id.clone());
        headers.insert(&METADATA, self.value.clone());
    }
}

/// Says nothing, or no more.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(&METADATA);
    headers.remove(&METADATA_ID);
}

/// Whether somebody says something.
#[must_use]
pub fn said(headers: &HeaderMap) -> bool {
    headers.contains_key(&METADATA)
}

/// What the other end of connections to one place said the last time, and by which certificate: it says the same with every request.
#[derive(Default)]
pub struct Said(Mutex<Option<Words>>);

struct Words {
    value: HeaderValue,
    /// Of the certificate of who said it: another one may not say it.
    peer: u64,
    workload: Option<Arc<Workload>>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").finish_non_exhaustive()
    }
}

impl Said {
    /// Takes the metadata out of a message of this peer. None: it says nothing, or not what it should.
    pub fn take(&self, headers: &mut HeaderMap, peer: Option<&Identity>) -> Option<Arc<Workload>> {
        let value = headers.remove(&METADATA);
        headers.remove(&METADATA_ID);
        let (value, peer) = (value?, peer?);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(words) if words.value == value && words.peer == peer.fingerprint() => words.workload.clone(),
            _ => {
                let workload = read(value.as_bytes()).filter(|workload| is_of(workload, peer)).map(shared);
                *last = Some(Words { value, peer: peer.fingerprint(), workload: workload.clone() });
                workload
            }
        }
    }
}

/// Workloads that were told of: counters are found by the allocation.
static KNOWN: LazyLock<Mutex<HashSet<Arc<Workload>>>> = LazyLock::new(Mutex::default);
const MOST_KNOWN: usize = 1024;

/// The one allocation of this workload, mostly.
fn shared(workload: Workload) -> Arc<Workload> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(same) = known.get(&workload) {
        return Arc::clone(same);
    }
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    let workload = Arc::new(workload);
    known.insert(Arc::clone(&workload));
    workload
}

fn is_of(workload: &Workload, peer: &Identity) -> bool {
    peer.id.as_ref().is_some_and(|id| id.namespace() == &*workload.namespace)
}

/// Of the header, in bytes.
const LONGEST: usize = 4096;
/// Of what becomes a label of metrics, in bytes: labels and names of Kubernetes are no longer.
const LONGEST_TEXT: usize = 253;

fn read(value: &[u8]) -> Option<Workload> {
    if value.len() > LONGEST {
        return None;
    }
    let metadata = Struct::decode(STANDARD.decode(value).ok()?.as_slice()).ok()?;
    workload(&metadata)
}

/// None: something is longer than it can be.
fn workload(metadata: &Struct) -> Option<Workload> {
    let labels = match metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
        Some(Kind::Struct(labels)) => labels.clone(),
        _ => Struct::default(),
    };
    let name = metadata.text("WORKLOAD_NAME");
    let app = labels.text("app");
    let first = |names: [Arc<str>; 3]| names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let workload = Workload {
        canonical_service: first([labels.text(CANONICAL_NAME), app.clone(), name.clone()]),
        canonical_revision: first([labels.text(CANONICAL_REVISION), labels.text("version"), "latest".into()]),
        namespace: metadata.text("NAMESPACE"),
        version: labels.text("version"),
        cluster: metadata.text("CLUSTER_ID"),
        principal: Arc::default(),
        name,
        app,
    };
    let Workload { name, app, namespace, version, cluster, canonical_service, canonical_revision, .. } = &workload;
    let texts = [name, app, namespace, version, cluster, canonical_service, canonical_revision];
    texts.iter().all(|text| text.len() <= LONGEST_TEXT).then_some(workload)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tls::testing::{Ca, EDGE, REVIEWS, uri};

    pub(super) fn identity(id: &str) -> Identity {
        let leaf = Ca::new("root").leaf(vec![uri(id)], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
        let pem = leaf.chain[0].as_bytes();
        let certificate =
            <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(pem);
        Identity::of(&certificate.unwrap()).unwrap()
    }

    pub(super) fn own(namespace: &str) -> OwnMetadata {
        let labels =
            BTreeMap::from([("app".to_owned(), "reviews".to_owned()), ("version".to_owned(), "v1".to_owned())]);
        let env = |name: &str| (name == "ISTIO_META_WORKLOAD_NAME").then(|| "reviews-v1".to_owned());
        OwnMetadata::new("sidecar~1~a~b", &SourceLabels::of_gateway(&labels, namespace, env)).unwrap()
    }

    #[test]
    fn what_one_proxy_says_the_other_knows_and_the_application_does_not_see() {
        let mut headers = HeaderMap::new();
        own("default").tell(&mut headers);
        assert_eq!(headers.len(), 2);
        let said = Said::default();
        let peer = identity(REVIEWS);
        let workload = said.take(&mut headers, Some(&peer)).unwrap();
        assert!(headers.is_empty());
        assert_eq!((&*workload.name, &*workload.namespace, &*workload.version), ("reviews-v1", "default", "v1"));
        assert_eq!(&*workload.canonical_service, "reviews");
        own("default").tell(&mut headers);
        assert!(Arc::ptr_eq(&said.take(&mut headers, Some(&peer)).unwrap(), &workload), "it is read once");
    }

    #[test]
    fn what_one_says_another_one_at_the_same_place_may_not() {
        let (reviews, edge) = (identity(REVIEWS), identity(EDGE));
        for [first, second] in [[&reviews, &edge], [&edge, &reviews]] {
            let said = Said::default();
            let take = |peer: &Identity| {
                let mut headers = HeaderMap::new();
                own("default").tell(&mut headers);
                said.take(&mut headers, Some(peer)).is_some()
            };
            let wanted = |peer: &Identity| peer.uri() == reviews.uri();
            assert_eq!([take(first), take(second)], [wanted(first), wanted(second)]);
        }
    }

    #[test]
    fn texts_that_no_label_has_are_not_kept() {
        let said = |name: &str| {
            let name = Kind::Text(name.to_owned());
            workload(&Struct::of([("WORKLOAD_NAME", name)]))
        };
        assert!(said(&"a".repeat(LONGEST_TEXT)).is_some());
        assert!(said(&"a".repeat(LONGEST_TEXT + 1)).is_none());
    }

    #[test]
    fn equal_workloads_are_one() {
        let said = |name: &str| shared(Workload { name: name.into(), ..Workload::default() });
        assert!(Arc::ptr_eq(&said("one of a kind"), &said("one of a kind")));
    }

    #[test]
    fn nobody_speaks_for_others() {
        let take = |own: &OwnMetadata, peer: Option<&Identity>| {
            let mut headers = HeaderMap::new();
            own.tell(&mut headers);
            let workload = Said::default().take(&mut headers, peer);
            assert!(headers.is_empty());
            workload
        };
        assert_eq!(take(&own("default"), Some(&identity(EDGE))), None, "another namespace");
        assert_eq!(take(&own("default"), None), None, "in clear");
        let broken = OwnMetadata { value: HeaderValue::from_static("!"), ..own("default") };
        assert_eq!(take(&broken, Some(&identity(REVIEWS))), None);
    }
}
