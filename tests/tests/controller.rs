//! A gateway that is told by a controller: from the watch events to the answers, without Kubernetes.

use std::net::SocketAddr;
use std::time::Duration;

use controller::kube::{Joined, Versions};
use controller::push::Identity;
use e2e::controller::{Control, NAMESPACE, UID};
use e2e::fixture::{answer, eventually, eventually_async, until_answer};
use e2e::ports;
use e2e::process::Meshgate;
use mesh_core::model::IpFamilies;
use mesh_core::object::ObjectRef;
use mesh_core::wire::Kind;

#[path = "controller/certificates.rs"]
mod certificates;
#[path = "controller/limits.rs"]
mod limits;
#[path = "controller/mesh.rs"]
mod mesh;
#[path = "controller/secrets.rs"]
mod secrets;
#[path = "controller/streams.rs"]
mod streams;
#[path = "controller/stuck.rs"]
mod stuck;
#[path = "controller/way.rs"]
mod way;

fn gateway(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: {NAMESPACE}}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {port}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*/*']}}
"
    )
}

fn route(host: &str, answer: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: '{host}', namespace: default}}
spec:
  hosts: ['{host}']
  gateways: [{NAMESPACE}/edge]
  http:
  - directResponse: {{status: 200, body: {{string: {answer}}}}}
"
    )
}

async fn state(gateway: &Meshgate) -> serde_json::Value {
    serde_json::from_str(&gateway.admin("/controller").await.unwrap()).unwrap()
}

fn edge() -> SocketAddr {
    let ip = std::net::IpAddr::from([127, 0, 0, 1]);
    SocketAddr::new(ip, ports::free_port(ip).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_says_is_served_and_outlives_the_controller() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    control.apply(&gateway(edge.port())).await.unwrap();
    control.apply(&route("a.example", "first")).await.unwrap();

    // The gateway is there before the controller, and not ready without it.
    let address = ports::refused().unwrap();
    let mut gateway = control.gateway(address).unwrap();
    gateway.wait_for_line(|line| line.contains("retry_ms"), Duration::from_secs(20)).unwrap();
    assert!(!gateway.log().contains("meshgate ready"), "{}", gateway.log());

    let serving = control.serve(Some(address)).await.unwrap();
    gateway.ready().unwrap();
    assert_eq!(answer(edge, "a.example").await, "first", "ready means that it is served");

    // One object more, one changed, one gone.
    control.apply(&(route("b.example", "b") + "---\n" + &route("a.example", "second"))).await.unwrap();
    until_answer(edge, "a.example", "second").await.unwrap();
    until_answer(edge, "b.example", "b").await.unwrap();
    control.delete(&route("b.example", "b")).await.unwrap();
    until_answer(edge, "b.example", "404").await.unwrap();

    // Acknowledged once it is in force.
    let proxies = control.proxies.clone();
    eventually("the acknowledgement", || {
        let all = proxies.all();
        all.len() == 1 && all[0].kinds[&Kind::Config].acknowledged == all[0].kinds[&Kind::Config].sent
    })
    .await
    .unwrap();
    assert_eq!(control.proxies.all()[0].name, format!("gw.{NAMESPACE}"));

    // The controller goes, and the gateway serves on; it comes back, and tells what changed meanwhile.
    serving.stop().await;
    eventually("the end of the stream", || control.proxies.all().is_empty()).await.unwrap();
    let mut generation = control.keeper.generation();
    generation.borrow_and_update();
    control.apply(&route("a.example", "third")).await.unwrap();
    assert_eq!(answer(edge, "a.example").await, "second");
    generation.changed().await.unwrap();
    let before = gateway.log().matches("published generation").count();
    let serving = control.serve(Some(address)).await.unwrap();
    until_answer(edge, "a.example", "third").await.unwrap();
    let published = || gateway.log().matches("published generation").count();
    eventually("the line of the log", || published() > before).await.unwrap();
    assert_eq!(published(), before + 1, "{}", gateway.log());

    let state = state(&gateway).await;
    assert_eq!(
        (state["connected"].as_bool(), state["refused"].as_array().map(Vec::len)),
        (Some(true), Some(0)),
        "{state}"
    );
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_lists_again_forgets_what_is_gone_and_keeps_what_is_not() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    control.apply(&gateway(edge.port())).await.unwrap();
    control.apply(&(route("a.example", "a") + "---\n" + &route("b.example", "b"))).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    assert_eq!((&*answer(edge, "a.example").await, &*answer(edge, "b.example").await), ("a", "b"));
    control.relist("VirtualService", &route("a.example", "a")).await.unwrap();
    until_answer(edge, "b.example", "404").await.unwrap();
    assert_eq!(answer(edge, "a.example").await, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_becomes_wrong_stays_as_it_was() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    control.apply(&gateway(edge.port())).await.unwrap();
    control.apply(&route("a.example", "good")).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    assert_eq!(answer(edge, "a.example").await, "good");
    control.apply(&route("a.example", "bad").replace("status: 200", "status: many")).await.unwrap();
    control.apply(&route("b.example", "b")).await.unwrap();
    until_answer(edge, "b.example", "b").await.unwrap();
    assert_eq!(answer(edge, "a.example").await, "good");
    let view = control.keeper.look().await.unwrap();
    let found =
        view.diagnostics.iter().find(|found| found.object.as_ref().is_some_and(|object| &*object.name == "a.example"));
    let found = found.expect("a finding about the object");
    assert!(found.help.as_deref().is_some_and(|help| help.contains("previous version stays in force")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_and_go_without_a_new_generation_at_the_gateway() {
    let backend = e2e::backend::Backend::echo("one").await.unwrap();
    let control = Control::start().await.unwrap();
    let edge = edge();
    let service = "apiVersion: v1
kind: Service
metadata: {name: app, namespace: default}
spec: {ports: [{name: http, port: 80, targetPort: 8080}], selector: {app: app}}
";
    let slice = |endpoints: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app-1, namespace: default, labels: {{kubernetes.io/service-name: app}}}}
addressType: IPv4
ports: [{{name: http, port: {}}}]
endpoints: [{endpoints}]
",
            backend.address.port()
        )
    };
    let route = route("a.example", "x").replace(
        "directResponse: {status: 200, body: {string: x}}",
        "route: [{destination: {host: app, port: {number: 80}}}]",
    );
    let there = format!("{{addresses: ['{}'], conditions: {{ready: true}}}}", backend.address.ip());
    control.apply(&[gateway(edge.port()).as_str(), &route, service, &slice("")].join("---\n")).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    assert_eq!(answer(edge, "a.example").await, "503", "no endpoint yet");
    let published = gateway.log().matches("published generation").count();
    control.apply(&slice(&there)).await.unwrap();
    let mut status = String::new();
    for _ in 0..200 {
        status = answer(edge, "a.example").await;
        if status != "503" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_ne!(status, "503");
    assert_eq!(backend.requests(), 1);
    control.apply(&slice("")).await.unwrap();
    until_answer(edge, "a.example", "503").await.unwrap();
    assert_eq!(gateway.log().matches("published generation").count(), published, "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_know_is_told_why_and_a_new_token_is_taken() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    control.apply(&gateway(edge.port())).await.unwrap();
    control.apply(&route("a.example", "a")).await.unwrap();
    control.token("stolen").unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway
        .wait_for_line(|line| line.contains("the token is refused: no such token"), Duration::from_secs(20))
        .unwrap();
    assert!(control.proxies.all().is_empty());
    assert!(!gateway.log().contains("stolen"), "tokens stay out of logs");
    control.token("pod-gw").unwrap();
    gateway.ready().unwrap();
    assert_eq!(answer(edge, "a.example").await, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_which_versions_of_the_objects_it_knows() {
    let control = Control::start().await.unwrap();
    control.apply(&gateway(8080)).await.unwrap();
    let identity = Identity {
        namespace: NAMESPACE.to_owned(),
        service_account: "gateway".to_owned(),
        pod: "gw".to_owned(),
        uid: UID.to_owned(),
    };
    let _joined = control.keeper.join(&identity).await.unwrap();
    let before = control.keeper.versions().await.unwrap();
    let incomplete = route("a.example", "x")
        .replace("directResponse: {status: 200, body: {string: x}}", "route: [{destination: {host: nowhere}}]");
    let name = ObjectRef::new("VirtualService", "default", "a.example");

    // It is known, and waits for what it names.
    let mut generation = control.keeper.generation();
    generation.borrow_and_update();
    control.apply(&incomplete).await.unwrap();
    generation.changed().await.unwrap();
    let with = control.keeper.versions().await.unwrap();
    assert!(with.waiting.iter().eq([&name]), "{with:?}");
    assert!(with.generation > before.generation, "{with:?}");
    let number = |versions: &Versions, name| versions.objects.get(name).map(|version| version.parse::<u64>().unwrap());
    let newest = before.objects.values().map(|version| version.parse::<u64>().unwrap()).max();
    assert!(number(&with, &name) > newest, "{with:?}, {before:?}");

    control.delete(&incomplete).await.unwrap();
    generation.changed().await.unwrap();
    let without = control.keeper.versions().await.unwrap();
    assert_eq!((number(&without, &name), without.waiting.len()), (None, 0));
}

fn node(zone: &str, status: &str) -> String {
    format!(
        "apiVersion: v1
kind: Node
metadata: {{name: n1, labels: {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}, beat: {status}}}}}
status: {{nodeInfo: {status}}}
"
    )
}

fn gateway_pod(name: &str, spec: &str, ips: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{istio: ingressgateway}}}}
spec: {{{spec}}}
status: {{podIPs: [{ips}]}}
"
    )
}

async fn locality_of_endpoint(gateway: &Meshgate) -> String {
    let page: serde_json::Value = serde_json::from_str(&gateway.admin("/clusters?format=json").await.unwrap()).unwrap();
    page["clusters"][0]["endpoints"][0]["locality"].as_str().unwrap_or("none").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_say_where_endpoints_and_proxies_are() {
    let control = Control::start().await.unwrap();
    let slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: default, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1], nodeName: n1}]
";
    let service = "apiVersion: v1
kind: Service
metadata: {name: app, namespace: default}
spec: {ports: [{name: http, port: 80}]}
";
    let route = route("a.example", "x")
        .replace("directResponse: {status: 200, body: {string: x}}", "route: [{destination: {host: app}}]");
    let pod = gateway_pod("gw", "nodeName: n1", "{ip: 10.9.0.1}");
    let edge = gateway(edge().port());
    control.apply(&[edge.as_str(), &route, service, slice, &pod, &node("a", "first")].join("---\n")).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    assert_eq!(locality_of_endpoint(&gateway).await, "r/a");
    assert_eq!(control.proxies.all()[0].locality, "r/a");

    // A heartbeat is no change.
    let name = ObjectRef::new("Node", "", "n1");
    let before = control.keeper.versions().await.unwrap();
    control.apply(&node("a", "second")).await.unwrap();
    let mut after = control.keeper.versions().await.unwrap();
    for _ in 0..400 {
        if after.objects[&name] != before.objects[&name] {
            break;
        }
        // Whoever asks without a pause keeps the keeper from its feed.
        tokio::time::sleep(Duration::from_millis(25)).await;
        after = control.keeper.versions().await.unwrap();
    }
    assert_ne!(after.objects[&name], before.objects[&name]);
    assert_eq!(after.generation, before.generation);

    // Another label changes endpoints, and nothing that is compiled.
    let published = gateway.log().matches("published generation").count();
    control.apply(&node("b", "second")).await.unwrap();
    let mut locality = String::new();
    for _ in 0..400 {
        locality = locality_of_endpoint(&gateway).await;
        if locality == "r/b" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(locality, "r/b");
    assert_eq!(gateway.log().matches("published generation").count(), published, "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_and_addresses_do_not_split_classes_of_proxies_but_families_of_addresses_do() {
    let control = Control::start().await.unwrap();
    let pods = [
        node("a", "x"),
        node("b", "x").replace("n1", "n2"),
        gateway_pod("one", "nodeName: n1", "{ip: 10.9.0.1}"),
        gateway_pod("two", "nodeName: n2", "{ip: 10.9.0.2}"),
        gateway_pod("six", "nodeName: n2", "{ip: 'fd00::1'}"),
    ];
    control.apply(&pods.join("---\n")).await.unwrap();
    let join = async |pod: &str| {
        let (namespace, account) = (NAMESPACE.to_owned(), "gateway".to_owned());
        let identity = Identity { namespace, service_account: account, pod: pod.to_owned(), uid: UID.to_owned() };
        let Joined { proxy, states, .. } = control.keeper.join(&identity).await.unwrap();
        let class = states.borrow().class;
        (class, proxy.locality, proxy.families, states)
    };
    let (one, two, six) = (join("one").await, join("two").await, join("six").await);
    assert_eq!((one.1.as_str(), two.1.as_str(), six.1.as_str()), ("r/a", "r/b", "r/b"));
    assert_eq!((one.2, six.2), (IpFamilies::V4, IpFamilies::V6));
    assert_eq!(one.0, two.0);
    assert_ne!(one.0, six.0);

    // A pod that runs and whose addresses are not seen yet is waited for.
    control.apply(&gateway_pod("late", "nodeName: n1", "")).await.unwrap();
    let (joined, applied) = tokio::join!(join("late"), async {
        tokio::task::yield_now().await;
        control.apply(&gateway_pod("late", "nodeName: n1", "{ip: 'fd00::2'}")).await
    });
    applied.unwrap();
    assert_eq!(joined.0, six.0);
}
