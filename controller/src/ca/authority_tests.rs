use rcgen::CertificateParams;

use super::*;

/// A CA of its own: a root, and what signs under it.
struct Own {
    root: String,
    between: String,
    certificate: String,
    key: String,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Own {
    fn new() -> Own {
        let [root_key, between_key, key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let root = authority_params("root").self_signed(&root_key).unwrap();
        let signer = Issuer::from_ca_cert_pem(&root.pem(), root_key).unwrap();
        let between = authority_params("between").signed_by(&between_key, &signer).unwrap();
        let signer = Issuer::from_ca_cert_pem(&between.pem(), between_key).unwrap();
        let own = authority_params("own").signed_by(&key, &signer).unwrap();
        Own { root: root.pem(), between: between.pem(), certificate: own.pem(), key: key.serialize_pem() }
    }

    fn secret(&self, chain: &str, root: Option<&str>) -> Secret {
        let mut data = vec![(CERTIFICATE, self.certificate.as_str()), (KEY, &self.key), (CHAIN, chain)];
        data.extend(root.map(|root| (ROOT, root)));
        let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }
}

#[test]
fn a_root_that_was_made_is_read_as_it_was_written() {
    let made = Authority::generate().unwrap();
    let read = Authority::read(&made.secret()).unwrap();
    assert_eq!((read.root_pem, read.key_pem, read.chain), (made.root_pem, made.key_pem, made.chain));
}

#[test]
fn a_ca_that_is_plugged_in_sends_what_is_between_and_is_trusted_by_its_root() {
    let own = Own::new();
    // As Istio's own tools write the chain, with the CA's certificate in it; and without.
    for chain in [format!("{}{}", own.certificate, own.between), own.between.clone()] {
        let authority = Authority::read(&own.secret(&chain, Some(&own.root))).unwrap();
        assert_eq!(authority.root_pem(), own.root);
        let issued = authority.issue(&["a.test".to_owned()]).unwrap();
        assert_eq!(issued.cert.len(), 3);
        assert_eq!(issued.cert[1..], certificates(&format!("{}{}", own.certificate, own.between)).unwrap());
    }
}

#[test]
fn a_ca_that_nobody_would_believe_is_refused_with_the_key_that_is_wrong() {
    let (own, other) = (Own::new(), Own::new());
    let told = |secret: Secret| format!("{:#}", Authority::read(&secret).err().expect("it is taken"));
    let missing = told(own.secret("", Some(&own.root)));
    assert!(missing.contains("not good for who trusts `root-cert.pem`"), "{missing}");
    let foreign = told(own.secret(&own.between, Some(&other.root)));
    assert!(foreign.contains("not good for who trusts `root-cert.pem`"), "{foreign}");
    let garbage = told(own.secret(&own.between, Some("nothing")));
    assert!(garbage.contains("`root-cert.pem` is empty"), "{garbage}");
    let mut without = own.secret(&own.between, Some(&own.root));
    without.data.as_mut().unwrap().remove(KEY);
    let without = told(without);
    assert!(without.contains("there is no `ca-key.pem`"), "{without}");
}
