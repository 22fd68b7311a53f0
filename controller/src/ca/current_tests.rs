use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::ca::rotation::{OVERLAP, ROTATE, step};
use crate::kube::{OURS, ROOTS};

const NAMESPACE: &str = "sys";

/// Secrets of a cluster, by name.
type Secrets = Arc<Mutex<BTreeMap<String, Value>>>;

async fn answer(secrets: Secrets, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let name = head.uri.path().rsplit('/').next().unwrap().to_owned();
    let mut secrets = secrets.lock().unwrap();
    let (status, body) = match head.method {
        Method::GET => match secrets.get(&name) {
            Some(secret) => (StatusCode::OK, secret.clone()),
            None => (StatusCode::NOT_FOUND, json!({ "code": 404, "reason": "NotFound", "status": "Failure" })),
        },
        Method::POST => {
            let secret: Value = serde_json::from_slice(&body).unwrap();
            let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
            (StatusCode::CREATED, secrets.entry(name).insert_entry(secret).get().clone())
        }
        other => panic!("{other} of {name}"),
    };
    Response::builder().status(status).body(Body::from(serde_json::to_vec(&body).unwrap())).unwrap()
}

/// A follower of the CA of this Secret.
struct Desk {
    secrets: Secrets,
    follower: Follower,
    current: watch::Sender<Arc<Authority>>,
    roots: watch::Sender<String>,
}

impl Desk {
    async fn new(name: &str, secret: &Secret, leads: bool) -> Desk {
        let secrets = Secrets::default();
        secrets.lock().unwrap().insert(name.to_owned(), serde_json::to_value(secret).unwrap());
        let served = secrets.clone();
        let service = tower::service_fn(move |request| {
            let answer = answer(served.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let client = Client::new(service, NAMESPACE);
        let first = Authority::load(&client, NAMESPACE).await.unwrap();
        let follower = Follower {
            client,
            namespace: NAMESPACE.to_owned(),
            leadership: Leadership::fixed(leads),
            overlap: OVERLAP,
            counters: Counters::new().unwrap(),
        };
        let roots = watch::channel(first.root_pem().to_owned()).0;
        Desk { secrets, follower, current: watch::channel(Arc::new(first)).0, roots }
    }

    /// All Secrets go, and are looked for.
    async fn lose(&self) {
        self.secrets.lock().unwrap().clear();
        self.follower.look(&self.current, &self.roots).await;
    }

    fn names(&self) -> Vec<String> {
        self.secrets.lock().unwrap().keys().cloned().collect()
    }

    fn written(&self) -> Secret {
        serde_json::from_value(self.secrets.lock().unwrap().get(SECRET).unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_secret_that_is_gone_is_written_again_with_the_ca_in_force() {
    let made = Authority::generate().unwrap();
    let desk = Desk::new(SECRET, &made.secret(), true).await;
    desk.lose().await;
    assert!(**desk.current.borrow() == made);
    assert_eq!(*desk.roots.borrow(), made.root_pem());
    assert_eq!(desk.written(), made.secret());
}

#[tokio::test]
async fn only_the_leader_writes_and_nobody_makes_a_new_root() {
    let made = Authority::generate().unwrap();
    let desk = Desk::new(SECRET, &made.secret(), false).await;
    desk.lose().await;
    assert!(**desk.current.borrow() == made);
    assert_eq!(desk.names(), [""; 0]);
}

/// A replica that starts while the Secret is away must not make a root that nobody believes.
#[tokio::test]
async fn no_root_is_made_where_one_is_announced() {
    let made = Authority::generate().unwrap();
    let desk = Desk::new(SECRET, &made.secret(), false).await;
    let map =
        |labels: Value| json!({ "metadata": { "name": ROOTS, "labels": labels }, "data": { "root-cert.pem": "" } });
    let put = |map: Value| desk.secrets.lock().unwrap().insert(ROOTS.to_owned(), map);
    let load = || Authority::load(&desk.follower.client, NAMESPACE);
    put(map(json!({ "istio.io/config": "true", OURS.0: OURS.1 })));
    assert!(load().await.unwrap() == made, "the key is there");
    desk.secrets.lock().unwrap().remove(SECRET);
    let refused = load().await.err().unwrap().to_string();
    assert!(refused.contains("announces the root of a CA whose secret"), "{refused}");
    assert_eq!(desk.names(), [ROOTS]);
    // That of another control plane says nothing of ours.
    put(map(json!({ "istio.io/config": "true" })));
    assert!(load().await.unwrap() != made);
    assert_eq!(desk.names(), [ROOTS, SECRET]);
}

/// The key of somebody else is written nowhere.
#[tokio::test]
async fn a_ca_of_ones_own_that_is_taken_away_signs_on() {
    let own = Authority::generate().unwrap();
    let desk = Desk::new(PLUGGED_IN, &own.secret(), true).await;
    desk.lose().await;
    assert_eq!(desk.current.borrow().root_pem(), own.root_pem());
    assert_eq!(*desk.roots.borrow(), own.root_pem());
    assert_eq!(desk.names(), [""; 0]);
}

/// Workloads that have a certificate of the old root are believed until it ends.
#[tokio::test]
async fn a_change_of_the_root_loses_nobody_with_its_secret() {
    let mut secret = Authority::generate().unwrap().secret();
    secret.metadata.annotations = Some([(ROTATE.to_owned(), "now".to_owned())].into());
    let overlap = i64::try_from(OVERLAP.as_secs()).unwrap();
    let announced = step(&secret, now() - overlap, OVERLAP).unwrap().unwrap().secret;
    let switched = step(&announced, now(), OVERLAP).unwrap().unwrap().secret;
    for under_way in [announced, switched] {
        // Nothing is due while it is looked for.
        let before = Authority::read(&under_way).unwrap();
        let desk = Desk::new(SECRET, &under_way, true).await;
        desk.lose().await;
        let written = desk.written();
        assert!(Authority::read(&written).unwrap() == before);
        assert_eq!(step(&written, now() + overlap - 10, OVERLAP).unwrap(), None);
        let last = step(&written, now() + overlap, OVERLAP).unwrap().unwrap().secret;
        let alone = Authority::read(&last).unwrap();
        assert_eq!((alone.key_pem(), alone.others().len()), (before.key_pem(), 0));
    }
}
