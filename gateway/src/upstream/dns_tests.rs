use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;

/// Long enough for everything that does come.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);

fn endpoint(address: EndpointAddress) -> Endpoint {
    Endpoint { address, weight: 1, locality: "".into(), workload: None, mtls: false, priority_labels: None }
}

fn name(host: &str, port: u16) -> Endpoint {
    endpoint(EndpointAddress::Dns { host: host.into(), port })
}

/// Answers by name; a name that begins with `slow` waits until it is told to go.
#[derive(Default)]
struct Names {
    asked: AtomicUsize,
    go: Notify,
    answers: Mutex<HashMap<String, Vec<&'static str>>>,
}

impl Names {
    fn resolver(self: &Arc<Self>, times: Times) -> Arc<Resolver> {
        let names = Arc::clone(self);
        Resolver::with_lookup(times, move |host| {
            let names = Arc::clone(&names);
            Box::pin(async move {
                names.asked.fetch_add(1, Ordering::Relaxed);
                if host.starts_with("slow") {
                    names.go.notified().await;
                }
                let answer = names.answers.lock().unwrap().get(&*host).cloned().ok_or(io::ErrorKind::NotFound)?;
                Ok(answer.iter().map(|text| text.parse().unwrap()).collect())
            })
        })
    }

    fn set(&self, host: &str, addresses: &[&'static str]) {
        self.answers.lock().unwrap().insert(host.to_owned(), addresses.to_vec());
    }

    fn fail(&self, host: &str) {
        self.answers.lock().unwrap().remove(host);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Nothing is ever fresh: every call asks.
const EAGER: Times = Times { fresh: Duration::ZERO, lookup: LONG, grace: LONG, forget: LONG };

async fn resolve(resolver: &Arc<Resolver>, endpoints: &[Endpoint], deadline: Duration) -> Vec<String> {
    let resolved = resolver.resolve_now(endpoints, deadline).await;
    resolved.iter().map(|(endpoint, address)| format!("{} {address}", endpoint.address)).collect()
}

#[tokio::test]
async fn names_become_addresses() {
    let names = Arc::new(Names::default());
    names.set("a", &["10.0.0.2", "::1", "10.0.0.1", "10.0.0.1", "::ffff:10.0.0.3"]);
    names.set("six", &["::2", "::1"]);
    let resolver = names.resolver(Times { fresh: LONG, ..EAGER });
    let endpoints = [
        endpoint(EndpointAddress::Socket("10.9.9.9:1".parse().unwrap())),
        name("a", 80),
        name("a", 81),
        name("six", 82),
        name("missing", 83),
    ];
    let resolved = resolve(&resolver, &endpoints, LONG).await;
    assert_eq!(
        resolved,
        [
            "10.9.9.9:1 10.9.9.9:1",
            "a:80 10.0.0.1:80",
            "a:80 10.0.0.2:80",
            "a:80 10.0.0.3:80",
            "a:81 10.0.0.1:81",
            "a:81 10.0.0.2:81",
            "a:81 10.0.0.3:81",
            "six:82 [::1]:82",
            "six:82 [::2]:82",
        ]
    );
    // One question per name, and none while the answers are fresh, the bad one too.
    assert_eq!(names.asked(), 3);
    assert_eq!(resolve(&resolver, &endpoints, LONG).await, resolved);
    assert_eq!(names.asked(), 3);
}

#[tokio::test]
async fn changes_are_seen_and_failures_keep_the_last_addresses() {
    let names = Arc::new(Names::default());
    let resolver = names.resolver(EAGER);
    let endpoints = [name("a", 80)];
    for address in ["10.0.0.1", "10.0.0.2"] {
        names.set("a", &[address]);
        assert_eq!(resolve(&resolver, &endpoints, LONG).await, [format!("a:80 {address}:80")]);
    }
    names.fail("a");
    assert_eq!(resolve(&resolver, &endpoints, LONG).await, ["a:80 10.0.0.2:80"]);
    names.set("a", &[]);
    assert_eq!(resolve(&resolver, &endpoints, LONG).await, ["a:80 10.0.0.2:80"]);
    assert_eq!(names.asked(), 4);
}

#[tokio::test]
async fn slow_names_do_not_hold_up_the_others() {
    let names = Arc::new(Names::default());
    let resolver = names.resolver(Times { grace: SHORT, ..EAGER });
    names.set("slow", &["10.0.0.1"]);
    names.set("a", &["10.0.0.2"]);
    let endpoints = [name("slow", 80), name("a", 80)];
    assert_eq!(resolve(&resolver, &endpoints, SHORT).await, ["a:80 10.0.0.2:80"]);
    // The lookup goes on, and there is only one.
    names.go.notify_one();
    assert_eq!(resolve(&resolver, &endpoints, LONG).await, ["slow:80 10.0.0.1:80", "a:80 10.0.0.2:80"]);
    assert_eq!(names.asked(), 3);
    // With addresses to go on with, nobody waits for long: this one never answers.
    assert_eq!(resolve(&resolver, &endpoints, LONG).await, ["slow:80 10.0.0.1:80", "a:80 10.0.0.2:80"]);
}

#[tokio::test]
async fn a_lookup_that_hangs_is_started_again() {
    let names = Arc::new(Names::default());
    let resolver = names.resolver(Times { lookup: SHORT, ..EAGER });
    for count in 1..3 {
        assert!(resolve(&resolver, &[name("slow", 80)], LONG).await.is_empty());
        assert_eq!(names.asked(), count);
    }
}

#[tokio::test]
async fn a_lookup_that_was_given_up_keeps_its_permit_until_it_ends() {
    let names = Arc::new(Names::default());
    let resolver = names.resolver(Times { lookup: SHORT, ..EAGER });
    names.set("a", &["10.0.0.1"]);
    let slow: Vec<Endpoint> = (0..LOOKUPS).map(|number| name(&format!("slow{number}"), 80)).collect();
    assert!(resolve(&resolver, &slow, LONG).await.is_empty());
    assert!(resolve(&resolver, &[name("a", 80)], LONG).await.is_empty());
    assert_eq!(names.asked(), LOOKUPS);
    names.go.notify_waiters();
    assert_eq!(resolve(&resolver, &[name("a", 80)], LONG).await, ["a:80 10.0.0.1:80"]);
}

#[tokio::test]
async fn names_that_are_being_looked_up_leave_no_room() {
    let never =
        |_| -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> { Box::pin(std::future::pending()) };
    let resolver = Resolver::bounded(1, EAGER, never);
    let owner = "*.x".into();
    assert_eq!(resolver.addresses(&owner, "a", SHORT).await, Err(NoAddress::Unknown));
    assert_eq!(resolver.addresses(&owner, "b", SHORT).await, Err(NoAddress::Full));
    assert_eq!(resolver.kept(), ["a"]);
}

#[tokio::test]
async fn names_that_nobody_wants_are_forgotten() {
    let names = Arc::new(Names::default());
    let resolver = names.resolver(Times { forget: Duration::ZERO, ..EAGER });
    names.set("a", &["10.0.0.1"]);
    names.set("b", &["10.0.0.1"]);
    resolve(&resolver, &[name("a", 80)], LONG).await;
    resolve(&resolver, &[name("b", 80)], LONG).await;
    assert_eq!(resolver.names().len(), 1);
}

#[tokio::test]
async fn addresses_that_are_never_called_are_told_from_none() {
    let refused = |_| -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async { Err(io::ErrorKind::PermissionDenied.into()) })
    };
    let resolver = Resolver::bounded(1, EAGER, refused);
    assert_eq!(resolver.addresses(&"*.x".into(), "a", LONG).await, Err(NoAddress::Refused));
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let resolver = Resolver::new();
    let resolved = resolve(&resolver, &[name("localhost", 80)], LONG).await;
    assert_eq!(resolved, ["localhost:80 127.0.0.1:80"]);
}
