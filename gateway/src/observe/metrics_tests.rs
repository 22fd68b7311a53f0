use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::lb::{Balancer, EndpointState};
use mesh_core::model::{
    Balancing, Destination, Endpoint, EndpointAddress, Endpoints, Reach, UpstreamProtocol, UpstreamTls, Workload,
};
use mesh_core::object::ObjectRef;

use super::*;
use crate::live::LiveCluster;
use crate::observe::record_samples::{forwarded, malformed, unrouted};
use crate::observe::series::KEEP_GONE;
use crate::observe::{Observe, RequestRecord};

fn cluster() -> Arc<LiveCluster> {
    let destination = Destination {
        key: "outbound|9080|v1|reviews.default.svc.cluster.local".into(),
        host: "reviews.default.svc.cluster.local".into(),
        service_name: "reviews".into(),
        service_namespace: "default".into(),
        port: 9080,
        subset: Some("v1".into()),
        protocol: UpstreamProtocol::Http1,
        balancing: Balancing::Random,
        locality: None,
        warmup: None,
        outlier: None,
        tls: UpstreamTls::Auto,
        limits: Default::default(),
        connections: Default::default(),
        connect_timeout: std::time::Duration::from_secs(10),
        idle_timeout: std::time::Duration::from_secs(3600),
        reach: Reach::Discovered,
        origin: ObjectRef::new("Service", "default", "reviews"),
        rule: None,
    };
    Arc::new(LiveCluster {
        origination: None,
        names: None,
        destination: Arc::new(destination),
        endpoints: Arc::default(),
        balancer: Arc::new(Balancer::new(Balancing::Random)),
        breaker: None,
        outliers: None,
        id: 1,
    })
}

fn endpoint(version: &str) -> Arc<EndpointState> {
    let workload = Workload {
        name: format!("reviews-{version}").into(),
        namespace: "default".into(),
        app: "reviews".into(),
        version: version.into(),
        canonical_service: "reviews".into(),
        canonical_revision: version.into(),
        principal: "".into(),
        cluster: "Kubernetes".into(),
    };
    let address = ([10, 0, 0, 1], 9080).into();
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(address),
        weight: 1,
        locality: "".into(),
        workload: Some(Arc::new(workload)),
        mtls: false,
        priority_labels: None,
    };
    Arc::new(EndpointState::new(endpoint, address))
}

fn observe(workers: usize) -> Arc<Observe> {
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    Observe::new(workers, &SourceLabels::of_gateway(&labels, "istio-system", |_| None)).unwrap()
}

fn istio_lines(observe: &Observe) -> String {
    let text = observe.metrics_text();
    let lines = text.lines().filter(|line| line.contains("istio_re") || line.contains("bad_requests"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn exposition_has_istios_names_and_labels() {
    let observe = observe(2);
    let (cluster, v1) = (cluster(), endpoint("v1"));
    for worker in 0..2 {
        let record = RequestRecord { cluster: Some(&cluster), endpoint: Some(&v1), ..forwarded() };
        observe.observer(worker).unwrap().record(&record);
    }
    let grpc = RequestRecord {
        cluster: Some(&cluster),
        endpoint: Some(&v1),
        grpc: true,
        grpc_status: Some(5),
        request_messages: 1,
        response_messages: 3,
        ..forwarded()
    };
    observe.observer(0).unwrap().record(&grpc);
    observe.observer(0).unwrap().record(&unrouted());
    observe.observer(1).unwrap().record(&malformed());
    insta::assert_snapshot!(istio_lines(&observe));
}

#[test]
fn workers_add_up_and_reading_loses_nothing() {
    let observe = observe(2);
    let (cluster, v1, v2) = (cluster(), endpoint("v1"), endpoint("v2"));
    // The same workload, described by another allocation.
    let v1_again = endpoint("v1");
    for (worker, endpoint) in [(0, &v1), (1, &v1_again), (0, &v2)] {
        let record = RequestRecord { cluster: Some(&cluster), endpoint: Some(endpoint), ..forwarded() };
        observe.observer(worker).unwrap().record(&record);
        let _ = observe.metrics_text();
    }
    let count = |version: &str| {
        let workload = format!("destination_workload=\"reviews-{version}\"");
        let text = observe.metrics_text();
        let mut lines =
            text.lines().filter(|line| line.starts_with("istio_requests_total") && line.contains(&workload));
        let value = lines.next().unwrap().rsplit_once(' ').unwrap().1.to_owned();
        assert_eq!(lines.next(), None);
        value
    };
    assert_eq!(count("v1"), "2");
    assert_eq!(count("v2"), "1");
}

#[test]
fn histograms_are_cumulative() {
    let mut samples = Samples::default();
    for value in [0.4, 0.5, 7.0, 1e9] {
        samples.observe(value);
    }
    let proto = histogram(&samples);
    let at = |bound: f64| proto.get_bucket().iter().find(|b| b.upper_bound() == bound).unwrap().cumulative_count();
    assert_eq!((at(0.5), at(5.0), at(10.0), at(3_600_000.0), proto.get_sample_count()), (2, 2, 3, 3, 4));
}

#[test]
fn the_source_is_described_by_labels_and_environment() {
    let labels = BTreeMap::from([("app".to_owned(), "edge".to_owned()), ("version".to_owned(), "v7".to_owned())]);
    let env = |name: &str| (name == "ISTIO_META_WORKLOAD_NAME").then(|| "edge-deployment".to_owned());
    let source = SourceLabels::of_gateway(&labels, "ns", env);
    assert_eq!((source.workload.as_str(), source.app.as_str()), ("edge-deployment", "edge"));
    assert_eq!((source.canonical_service.as_str(), source.canonical_revision.as_str()), ("edge", "v7"));
}

#[test]
fn series_of_what_is_gone_go_after_a_while() {
    let observe = observe(1);
    let (cluster, v1, v2) = (cluster(), endpoint("v1"), endpoint("v2"));
    for endpoint in [Some(&v1), Some(&v2), None] {
        let record = RequestRecord { cluster: Some(&cluster), endpoint, ..forwarded() };
        observe.observer(0).unwrap().record(&record);
    }
    observe.observer(0).unwrap().record(&unrouted());
    let mut set = ResourceSet::default();
    let key = cluster.destination.key.clone();
    set.destinations.insert(key.clone(), cluster.destination.clone());
    let endpoints = Endpoints {
        key: key.clone(),
        endpoints: vec![v1.endpoint.clone()],
        origin: cluster.destination.origin.clone(),
    };
    set.endpoints.insert(key, Arc::new(endpoints));
    let workloads = || {
        let text = observe.metrics_text();
        let lines = text.lines().filter(|line| line.starts_with("istio_requests_total"));
        let mut names: Vec<String> = lines
            .map(|line| line.split_once("destination_workload=\"").unwrap().1.split_once('"').unwrap().0.to_owned())
            .collect();
        names.sort();
        names
    };
    let (all, now) = (["reviews-v1", "reviews-v2", "unknown", "unknown"], Instant::now());
    assert_eq!(workloads(), all);
    observe.requests.forget_gone(&set, now + KEEP_GONE / 2);
    assert_eq!(workloads(), all);
    observe.requests.forget_gone(&set, now + KEEP_GONE * 2);
    assert_eq!(workloads(), ["reviews-v1", "unknown", "unknown"]);
    // What exists was looked at just now.
    observe.requests.forget_gone(&ResourceSet::default(), now + KEEP_GONE * 5 / 2);
    assert_eq!(workloads(), ["reviews-v1", "unknown", "unknown"]);
    observe.requests.forget_gone(&ResourceSet::default(), now + KEEP_GONE * 4);
    assert_eq!(workloads(), ["unknown"]);
}

/// What arrives at a workload: it is the destination, and the source is who the client's proxy says it is.
#[test]
fn what_arrives_is_reported_by_its_destination() {
    use crate::listen::Direction;
    let observe = observe(1);
    observe.set_principal("spiffe://cluster.local/ns/default/sa/own");
    let (cluster, caller) = (cluster(), endpoint("v9"));
    let workload = caller.endpoint.workload.as_ref();
    let record = RequestRecord {
        direction: Some(Direction::Inbound),
        cluster: Some(&cluster),
        peer_workload: workload,
        ..forwarded()
    };
    let observer = observe.observer(0).unwrap();
    observer.record(&record);
    observer.count_tcp(&record, TcpCounts { opened: 1, received: 7, ..TcpCounts::default() });
    let text = observe.metrics_text();
    let line = |family: &str| text.lines().find(|line| line.starts_with(&format!("{family}{{"))).unwrap();
    for family in ["istio_requests_total", "istio_tcp_received_bytes_total"] {
        for label in [
            "reporter=\"destination\"",
            "connection_security_policy=\"none\"",
            "destination_principal=\"unknown\"",
            "destination_service_name=\"reviews\"",
            "destination_workload=\"istio-ingressgateway\"",
            "source_workload=\"reviews-v9\"",
            "source_version=\"v9\"",
        ] {
            assert!(line(family).contains(label), "{label}: {}", line(family));
        }
    }
    assert!(line("istio_tcp_received_bytes_total").ends_with(" 7"));
    assert!(!line("istio_tcp_received_bytes_total").contains("response_code="));
    // Nobody says which clients there are: those that are quiet are forgotten.
    observe.requests.forget_gone(&Default::default(), Instant::now() + KEEP_GONE * 2);
    assert!(!observe.metrics_text().contains("reviews-v9"));
}

/// An endpoint of which nobody knows what runs there is called as it says; an endpoint that has a name keeps it.
#[test]
fn what_endpoints_say_of_themselves_counts_where_nobody_else_knows() {
    let observe = observe(1);
    let (cluster, named, said) = (cluster(), endpoint("v1"), endpoint("v9"));
    let address = named.address;
    let unnamed = Endpoint { workload: Some(Arc::new(Workload::default())), ..named.endpoint.clone() };
    let unnamed = Arc::new(EndpointState::new(unnamed, address));
    let said = said.endpoint.workload.as_ref();
    let observer = observe.observer(0).unwrap();
    for (endpoint, said) in [(&named, said), (&unnamed, said), (&unnamed, None)] {
        let record =
            RequestRecord { cluster: Some(&cluster), endpoint: Some(endpoint), peer_workload: said, ..forwarded() };
        observer.count_tcp(&record, TcpCounts { opened: 1, ..TcpCounts::default() });
    }
    let text = observe.metrics_text();
    let opened = || text.lines().filter(|line| line.starts_with("istio_tcp_connections_opened_total{"));
    for name in ["reviews-v1", "reviews-v9", "unknown"] {
        let label = format!(",destination_workload=\"{name}\"");
        assert_eq!(opened().filter(|line| line.contains(&label)).count(), 1, "{name}: {text}");
    }
}

#[test]
fn who_calls_itself_ever_something_else_is_no_longer_listened_to() {
    use crate::listen::Direction;
    let observe = observe(1);
    let (cluster, observer) = (cluster(), observe.observer(0).unwrap());
    for number in 0..5000 {
        let workload = Arc::new(Workload { name: format!("w{number}").into(), ..Workload::default() });
        let record = RequestRecord {
            direction: Some(Direction::Inbound),
            cluster: Some(&cluster),
            peer_workload: Some(&workload),
            ..forwarded()
        };
        observer.count_tcp(&record, TcpCounts { opened: 1, ..TcpCounts::default() });
    }
    let text = observe.metrics_text();
    let opened = || text.lines().filter(|line| line.starts_with("istio_tcp_connections_opened_total{"));
    assert_eq!(opened().count(), 4097);
    assert!(opened().any(|line| line.contains("source_workload=\"unknown\"") && line.ends_with(" 904")));
}

#[test]
fn requests_are_counted_by_the_prefix_of_their_match() {
    let observe = observe(2);
    let prefix: Arc<str> = "checkout".into();
    for (worker, status) in [(0, 200), (1, 204), (0, 503), (0, 0)] {
        let record = RequestRecord { stat_prefix: Some(&prefix), status, ..forwarded() };
        observe.observer(worker).unwrap().record(&record);
    }
    observe.observer(0).unwrap().record(&forwarded());
    let text = observe.metrics_text();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("meshgate_route_requests_total{")).collect();
    let mut lines = lines;
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"meshgate_route_requests_total{response_code_class="2xx",stat_prefix="checkout"} 2"#,
            r#"meshgate_route_requests_total{response_code_class="5xx",stat_prefix="checkout"} 1"#,
            r#"meshgate_route_requests_total{response_code_class="none",stat_prefix="checkout"} 1"#,
        ]
    );
}

#[test]
fn prefixes_are_bounded() {
    let observe = observe(1);
    for number in 0..5000 {
        let prefix: Arc<str> = format!("p{number}").into();
        let record = RequestRecord { stat_prefix: Some(&prefix), ..forwarded() };
        observe.observer(0).unwrap().record(&record);
    }
    let text = observe.metrics_text();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("meshgate_route_requests_total{")).collect();
    assert!((4096..=4097).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().any(|line| line.contains(r#"stat_prefix="other"} 90"#)));
    let counts = lines.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u32>().ok());
    assert_eq!(counts.sum::<u32>(), 5000);
}
