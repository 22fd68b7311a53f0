//! For tests: a CA, certificates that it signs, and cells with them.

use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;

use super::workload::{WorkloadCell, WorkloadCertificate};

pub const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";
pub const EDGE: &str = "spiffe://cluster.local/ns/istio-system/sa/edge";

pub struct Ca {
    pub root: CertificateDer<'static>,
    pub root_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The leaf first, then the root, as the controller sends them.
pub struct Leaf {
    pub chain: Vec<String>,
    pub key_pem: String,
}

impl Ca {
    pub fn new(name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap();
        Ca {
            root: root.der().clone(),
            root_pem: root.pem(),
            key_pem: key.serialize_pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn key_pem(&self) -> String {
        self.key_pem.clone()
    }

    pub fn workload(&self, id: &str) -> Leaf {
        self.leaf(vec![uri(id)], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub fn leaf(
        &self,
        sans: Vec<SanType>,
        algorithm: &'static SignatureAlgorithm,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = sans;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: vec![leaf.pem(), self.root_pem.clone()], key_pem: key.serialize_pem() }
    }
}

impl Leaf {
    pub fn read(&self) -> WorkloadCertificate {
        WorkloadCertificate::read(&self.chain, &self.key_pem).unwrap()
    }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(text).unwrap())
}

/// Of a workload with this id, which believes these CAs and the trust domain `cluster.local`.
pub fn cell(leaf: &Leaf, trusted: &[&Ca]) -> Arc<WorkloadCell> {
    let cell = WorkloadCell::awaited();
    cell.set_trust_domains(&["cluster.local".into()]);
    cell.set_roots(trusted.iter().map(|ca| ca.root.clone()).collect());
    cell.set_certificate(leaf.read()).unwrap();
    Arc::new(cell)
}
