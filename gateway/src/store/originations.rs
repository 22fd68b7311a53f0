//! How TLS is spoken with servers outside of the mesh: what destinations ask for, made ready with files. What became
//! bad stays as it was.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::certificate::{self, Certificate, Origin, Pem};
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{
    AuthoritySource, CertificateSource, Destination, Key, Origination, ResourceSet, Secret, UpstreamTls,
};
use mesh_core::object::ObjectRef;
use rustls::RootCertStore;

use crate::tls::origination::{AuthorityPem, Materials, OriginationCell, OriginationClient};
use crate::tls::provider::provider;

const FIELD: &str = "spec.trafficPolicy.tls";

#[derive(Default)]
pub struct Originations {
    known: HashMap<Arc<Origination>, Known>,
    /// CAs of the system, since somebody wanted them.
    system: Option<Arc<RootCertStore>>,
}

struct Known {
    cell: Arc<OriginationCell>,
    /// What its client was made of, if it has one.
    materials: Option<Materials>,
}

impl Originations {
    /// Of a destination that is in the set of the last [`Self::update`].
    pub fn cell(&self, destination: &Destination) -> Option<Arc<OriginationCell>> {
        let UpstreamTls::Originate(origination) = &destination.tls else { return None };
        self.known.get(origination).map(|known| Arc::clone(&known.cell))
    }

    pub fn names_files(&self) -> bool {
        self.known.keys().any(|origination| origination.names_files())
    }

    /// Looks at everything again. Yields what is wrong.
    pub async fn update(&mut self, set: &ResourceSet, now: SystemTime) -> Vec<Diagnostic> {
        let mut wanted: BTreeMap<&ObjectRef, Vec<&Arc<Origination>>> = BTreeMap::new();
        let mut before = std::mem::take(&mut self.known);
        for destination in set.destinations.values() {
            if let UpstreamTls::Originate(origination) = &destination.tls {
                let by = destination.rule.as_ref().unwrap_or(&destination.origin);
                wanted.entry(by).or_default().push(origination);
            }
        }
        let mut diagnostics = Vec::new();
        for (by, originations) in wanted {
            for origination in originations {
                if !self.known.contains_key(origination) {
                    let known = before.remove(origination);
                    let read =
                        materials(origination, known.as_ref().and_then(|known| known.materials.as_ref()), set).await;
                    let known = self.one(by, origination, known, read, now, &mut diagnostics).await;
                    self.known.insert(Arc::clone(origination), known);
                }
            }
        }
        diagnostics
    }

    async fn one(
        &mut self,
        by: &ObjectRef,
        origination: &Arc<Origination>,
        known: Option<Known>,
        read: Result<Materials, Unusable>,
        now: SystemTime,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Known {
        let origin = Origin { object: by, field: FIELD.to_owned(), what: "TLS to the destination".to_owned() };
        let before = known.as_ref().and_then(|known| known.materials.as_ref());
        let made = match read {
            Ok(materials) if before.is_some_and(|before| before.is(&materials)) => Ok(None),
            Ok(materials) => {
                let system = self.system(&materials).await;
                let client = OriginationClient::new(origination, &materials, &system);
                client.map(|client| Some((Arc::new(client), materials))).map_err(Unusable::Bad)
            }
            Err(error) => Err(error),
        };
        let (client, materials) = match made {
            Ok(None) => (None, None),
            Ok(Some((client, materials))) => (Some(Ok(client)), Some(materials)),
            // Whoever reads the objects says so.
            Err(Unusable::Gone(key)) => (Some(Err(format!("there is no usable secret {key}").into())), None),
            Err(Unusable::Bad(error)) => {
                diagnostics.push(unusable(by, &error, before.is_some()));
                (before.is_none().then(|| Err(error.into())), None)
            }
        };
        let shown = materials.as_ref().or(before).and_then(|materials| materials.certificate.as_ref());
        diagnostics.extend(shown.and_then(|certificate| origin.doubt(&certificate.info, now)));
        match (known, client) {
            (Some(known), None) => known,
            (Some(known), Some(client)) => {
                known.cell.set(client);
                Known { materials, ..known }
            }
            (None, client) => {
                let client = client.unwrap_or_else(|| Err("it was not made ready".into()));
                Known { cell: Arc::new(OriginationCell::new(Arc::clone(origination), client)), materials }
            }
        }
    }

    /// Read once, when they are needed.
    async fn system(&mut self, materials: &Materials) -> Arc<RootCertStore> {
        if materials.authorities.is_some() {
            return Arc::new(RootCertStore::empty());
        }
        if let Some(system) = &self.system {
            return Arc::clone(system);
        }
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let mut roots = RootCertStore::empty();
        if let Ok(found) = found {
            roots.add_parsable_certificates(found.certs);
        }
        let roots = Arc::new(roots);
        // Where there are none there may be some later.
        self.system = (!roots.is_empty()).then(|| Arc::clone(&roots));
        roots
    }
}

fn unusable(by: &ObjectRef, error: &str, had_good: bool) -> Diagnostic {
    let help = if had_good { "what was read last stays in use" } else { "requests to the host are answered 503" };
    let message = format!("TLS to the destination: {error}");
    Diagnostic::new(diag::CERTIFICATE_UNUSABLE, message).object(by).field(FIELD).help(help)
}

/// Why an origination has no materials.
enum Unusable {
    /// Its secret is not there: what was had of it counts no more.
    Gone(Key),
    /// In words.
    Bad(String),
}

/// What it takes, as it is now. `before`: what was read is not parsed again.
async fn materials(
    origination: &Origination,
    before: Option<&Materials>,
    set: &ResourceSet,
) -> Result<Materials, Unusable> {
    let secret = |key: &Key| set.secrets.get(key).ok_or_else(|| Unusable::Gone(Arc::clone(key)));
    let authorities = match &origination.authorities {
        _ if origination.unverified => Some(AuthorityPem::default()),
        None => None,
        Some(AuthoritySource::Files { certificates, revoked }) => {
            let revoked = if let Some(path) = revoked { read(path).await? } else { Vec::new() };
            Some(AuthorityPem { certificates: read(certificates).await?, revoked })
        }
        Some(AuthoritySource::Secret(key)) => {
            let Secret { authorities_pem, revoked_pem, .. } = &**secret(key)?;
            if authorities_pem.is_empty() {
                return Err(Unusable::Gone(Arc::clone(key)));
            }
            Some(AuthorityPem { certificates: authorities_pem.clone().into(), revoked: revoked_pem.clone().into() })
        }
    };
    let pem = match &origination.certificate {
        None => return Ok(Materials { authorities, certificate: None }),
        Some(CertificateSource::Secret(key) | CertificateSource::Issued { secret: key, .. }) => {
            let secret = secret(key)?;
            Pem {
                certificate: secret.certificate_pem.clone().into(),
                private_key: secret.private_key_pem.clone().into(),
            }
        }
        Some(CertificateSource::Ordered(name)) => {
            return Err(Unusable::Bad(format!("what is ordered for {name} is for servers alone")));
        }
        Some(CertificateSource::Files { certificate, private_key }) => {
            Pem { certificate: read(certificate).await?, private_key: read(private_key).await? }
        }
    };
    let before: Option<&Arc<Certificate>> = before.and_then(|before| before.certificate.as_ref());
    let certificate = Some(certificate::load(&pem, before, provider()).map_err(Unusable::Bad)?);
    Ok(Materials { authorities, certificate })
}

async fn read(path: &str) -> Result<Vec<u8>, Unusable> {
    tokio::fs::read(path).await.map_err(|error| Unusable::Bad(format!("cannot read {path}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_core::model::{Reach, UpstreamProtocol};

    use super::*;
    use crate::tls::testing::Ca;

    fn destination(ca: String) -> Destination {
        let authorities = Some(AuthoritySource::Files { certificates: ca, revoked: None });
        let origination = Origination { sni: None, authorities, names: vec![], unverified: false, certificate: None };
        Destination {
            key: "outbound|443||a".into(),
            host: "a".into(),
            service_name: "a".into(),
            service_namespace: "default".into(),
            port: 443,
            subset: None,
            protocol: UpstreamProtocol::Http1,
            balancing: Default::default(),
            locality: None,
            warmup: None,
            outlier: None,
            tls: UpstreamTls::Originate(Arc::new(origination)),
            limits: Default::default(),
            connections: Default::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            reach: Reach::Discovered,
            origin: ObjectRef::new("Service", "default", "a"),
            rule: Some(ObjectRef::new("DestinationRule", "default", "rule")),
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_found_and_what_became_bad_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let destination = Arc::new(destination(path.display().to_string()));
        let mut set = ResourceSet::default();
        set.destinations.insert(destination.key.clone(), Arc::clone(&destination));
        let mut originations = Originations::default();

        let found = originations.update(&set, SystemTime::now()).await;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].code, &*found[0].field), (diag::CERTIFICATE_UNUSABLE.id, FIELD));
        assert_eq!(found[0].help.as_deref(), Some("requests to the host are answered 503"));
        let cell = originations.cell(&destination).unwrap();
        cell.client().unwrap_err();

        std::fs::write(&path, Ca::new("one").root_pem).unwrap();
        assert_eq!(originations.update(&set, SystemTime::now()).await, []);
        let first = cell.client().unwrap().id;
        assert_eq!(originations.update(&set, SystemTime::now()).await, []);
        assert_eq!(cell.client().unwrap().id, first, "nothing changed");

        std::fs::write(&path, "nonsense").unwrap();
        let found = originations.update(&set, SystemTime::now()).await;
        assert_eq!(found[0].help.as_deref(), Some("what was read last stays in use"));
        assert_eq!(cell.client().unwrap().id, first);

        std::fs::write(&path, Ca::new("other").root_pem).unwrap();
        assert_eq!(originations.update(&set, SystemTime::now()).await, []);
        assert_ne!(cell.client().unwrap().id, first, "connections of before are nobody's");
    }
}
