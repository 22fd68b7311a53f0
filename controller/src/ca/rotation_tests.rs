use std::time::SystemTime;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn asked(secret: &Secret) -> Secret {
    let mut secret = secret.clone();
    secret.metadata.annotations = Some([(ROTATE.to_owned(), "now".to_owned())].into());
    secret
}

fn roots(secret: &Secret) -> Vec<String> {
    let authority = Authority::read(secret).unwrap();
    let roots = CertificateDer::pem_slice_iter(authority.root_pem().as_bytes());
    roots.map(|root| format!("{:?}", root.unwrap())).collect()
}

/// Who believes only what a step says believes whoever has a certificate of the step before, and of the one after.
#[test]
fn each_step_is_believed_by_its_neighbours() {
    let first = Authority::generate().unwrap();
    let steady = first.secret();
    let begun = now();
    assert_eq!(step(&steady, begun, HOUR).unwrap(), None);

    let announced = step(&asked(&steady), begun, HOUR).unwrap().unwrap().secret;
    assert!(!announced.metadata.annotations.as_ref().unwrap().contains_key(ROTATE));
    let signs = |secret: &Secret| Authority::read(secret).unwrap().chain().to_vec();
    assert_eq!(signs(&announced), signs(&steady));
    let [old] = roots(&steady).try_into().unwrap();
    assert_eq!((roots(&announced).len(), &roots(&announced)[0]), (2, &old));
    let new = roots(&announced)[1].clone();
    assert_eq!(step(&announced, begun + 3599, HOUR).unwrap(), None);

    let switched = step(&announced, begun + 3600, HOUR).unwrap().unwrap().secret;
    assert_ne!(signs(&switched), signs(&steady));
    assert_eq!(roots(&switched), [new.clone(), old]);
    assert_eq!(step(&switched, begun + 7199, HOUR).unwrap(), None);

    let forgotten = step(&switched, begun + 7200, HOUR).unwrap().unwrap().secret;
    assert_eq!(signs(&forgotten), signs(&switched));
    assert_eq!(roots(&forgotten), [new]);
    assert_eq!(step(&forgotten, begun + 99999, HOUR).unwrap(), None);
    let keys: Vec<&String> = forgotten.data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, [CERTIFICATE, KEY]);
}

#[test]
fn a_root_that_ends_soon_is_replaced() {
    let secret = Authority::generate().unwrap().secret();
    let year = 365 * 24 * 3600;
    assert_eq!(step(&secret, now() + 7 * year, HOUR).unwrap(), None);
    assert!(step(&secret, now() + 9 * year, HOUR).unwrap().is_some());
}

#[test]
fn clocks_that_go_back_hurry_nothing() {
    let announced = step(&asked(&Authority::generate().unwrap().secret()), now(), HOUR).unwrap().unwrap().secret;
    assert_eq!(step(&announced, now() - 99999, HOUR).unwrap(), None);
}

/// What is announced is in every answer of the CA, behind what shows who somebody is.
#[test]
fn whoever_gets_a_certificate_hears_of_the_next_root() {
    let first = Authority::generate().unwrap();
    let announced = step(&asked(&first.secret()), now(), HOUR).unwrap().unwrap().secret;
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap().pem().unwrap();
    let id = mesh_core::identity::SpiffeId::new("cluster.local", "shop", "web").unwrap();
    let chain = Authority::read(&announced).unwrap().sign(&csr, &id, None).unwrap();
    let told = chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
    let told: Vec<String> = told.map(|certificate| format!("{certificate:?}")).collect();
    assert_eq!(told.get(1..).unwrap(), roots(&announced));
}

#[test]
fn a_ca_that_has_nothing_of_the_one_before_is_noticed() {
    let (one, other) = (Authority::generate().unwrap(), Authority::generate().unwrap());
    assert!(!one.shares_root(&other));
    let announced = step(&asked(&one.secret()), now(), HOUR).unwrap().unwrap().secret;
    assert!(one.shares_root(&Authority::read(&announced).unwrap()));
}
