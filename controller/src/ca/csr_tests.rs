use std::time::SystemTime;

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "reviews").unwrap()
}

/// Of one who would like to be somebody else, a CA for a year.
fn request(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["admin.test".to_owned()]).unwrap();
    let other = "spiffe://cluster.local/ns/kube-system/sa/admin".to_owned();
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from(other).unwrap()));
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn seconds_left(certificate: &X509Certificate<'_>) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    certificate.validity().not_after.timestamp() - i64::try_from(now).unwrap()
}

#[test]
fn a_certificate_says_who_somebody_is_and_nothing_that_the_request_says() {
    let authority = Authority::generate().unwrap();
    let key = KeyPair::generate().unwrap();
    let chain = authority.sign(&request(&key), &id(), None).unwrap();
    assert_eq!(chain[1..].join(""), authority.root_pem().replace("\r\n", "\n"));
    let leaf = der(&chain[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(leaf.public_key().subject_public_key.data, key.public_key_raw());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/default/sa/reviews")]);
    assert!(names.critical && leaf.subject().iter().next().is_none());
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let root = der(authority.root_pem());
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    let signer = |certificate: &X509Certificate<'_>, authority: bool| {
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) if authority => Some(id.key_identifier.as_ref()?.0.to_vec()),
            ParsedExtension::SubjectKeyIdentifier(id) if !authority => Some(id.0.to_vec()),
            _ => None,
        })
    };
    // By it a verifier finds the right one of two roots of one name.
    assert_eq!(signer(&leaf, true), signer(&root, false));
    assert!(signer(&leaf, true).is_some());
}

#[test]
fn it_lasts_as_long_as_is_asked_for_but_not_longer_than_a_day() {
    let authority = Authority::generate().unwrap();
    let csr = request(&KeyPair::generate().unwrap());
    let hour = Duration::from_secs(3600);
    for (asked, seconds) in [(None, 86_400), (Some(hour), 3600), (Some(hour * 9999), 86_400), (Some(hour / 3600), 60)] {
        let chain = authority.sign(&csr, &id(), asked).unwrap();
        let leaf = der(&chain[0]);
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        let left = seconds_left(&leaf);
        assert!((seconds - 30..=seconds).contains(&left), "{asked:?}: {left}");
    }
}

#[test]
fn who_does_not_have_the_key_gets_no_certificate() {
    let authority = Authority::generate().unwrap();
    let text = request(&KeyPair::generate().unwrap());
    let mut forged = pem::parse(&text).unwrap().contents().to_vec();
    // In the signature.
    *forged.last_mut().unwrap() ^= 1;
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", forged));
    for csr in ["", "nothing", &forged, authority.root_pem()] {
        let refused = authority.sign(csr, &id(), None);
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{csr}: {refused:?}");
    }
    let large = "A".repeat(LARGEST + 1);
    assert!(matches!(authority.sign(&large, &id(), None), Err(Refusal::Large)));
}
