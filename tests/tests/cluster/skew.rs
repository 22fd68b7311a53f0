//! Controller and gateway of different versions: what one of them does not know is refused by name, and the rest goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use e2e::between::{Between, Doctor};
use mesh_core::wire::Kind;
use mesh_core::wire::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use serde_json::Value;

use super::*;

/// Of another version than both ends.
const WEATHER: &str = "type.googleapis.com/meshgate.v9.Weather";
/// Nonce of a response that the controller never sent.
const LATER: &str = "later";
/// More than a message names.
const ODD: usize = 30;

/// As if the controller, the gateway, or both were of a later version.
#[derive(Default)]
struct Later {
    /// Rules of hosts whose name begins with `odd` have a condition that the gateway does not know.
    has_weather: AtomicBool,
    /// A response of another type comes first, once.
    sends_type: AtomicBool,
    /// A request for another type comes first, once.
    asks_for_type: AtomicBool,
    /// What the gateway answered to that.
    answers: Mutex<Vec<DeltaDiscoveryRequest>>,
}

impl Doctor for Later {
    fn request(&self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryRequest> {
        if request.response_nonce == LATER {
            self.answers.lock().unwrap().push(request);
            return Vec::new();
        }
        let mut all = Vec::new();
        if self.asks_for_type.swap(false, Ordering::Relaxed) {
            let names = vec!["sun".to_owned()];
            let type_url = WEATHER.to_owned();
            let resource_names_subscribe = names;
            all.push(DeltaDiscoveryRequest { type_url, resource_names_subscribe, ..DeltaDiscoveryRequest::default() });
        }
        all.push(request);
        all
    }

    fn response(&self, mut response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryResponse> {
        let mut all = Vec::new();
        if self.sends_type.swap(false, Ordering::Relaxed) {
            all.push(DeltaDiscoveryResponse {
                type_url: WEATHER.to_owned(),
                nonce: LATER.to_owned(),
                ..response.clone()
            });
        }
        let is_odd = |name: &str| name.starts_with("host/") && name.contains("/odd");
        if self.has_weather.load(Ordering::Relaxed) && response.type_url == Kind::Config.type_url() {
            for resource in response.resources.iter_mut().filter(|resource| is_odd(&resource.name)) {
                let any = resource.resource.as_mut().unwrap();
                let text = String::from_utf8(any.value.to_vec()).unwrap();
                assert!(text.contains(r#""predicate":{"#), "{text}");
                any.value = text.replace(r#""predicate":{"#, r#""predicate":{"weather":"fine","#).into();
            }
        }
        all.push(response);
        all
    }
}

/// Names of the configuration that the gateway refuses, as the controller has it.
fn refused(page: &Value) -> Vec<&String> {
    let names = page["proxies"][0]["kinds"]["config"]["refused"].as_object();
    names.into_iter().flatten().map(|(name, _)| name).collect()
}

async fn connection(gateway: &Meshgate) -> Value {
    serde_json::from_str(&gateway.admin("/controller").await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_does_not_know_is_refused_by_name_and_said_by_the_object() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = trouble::prepare();
    let routes = routes_of("skew").await;
    let odd = || (0..ODD).map(|number| format!("odd-{number}"));
    let all =
        |answer: &str| odd().chain(["plain".to_owned()]).map(|name| (name, answer.to_owned())).collect::<Vec<_>>();
    routes.apply_all(all("first")).await.unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let controller = trouble::start_with(folder.path(), "skew", None, &kubeconfig);
    let later = Arc::new(Later::default());
    let between = Between::start(folder.path(), controller.discovery, later.clone()).await.unwrap();
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let pod = Pod { namespace: SYSTEM, name: "gw-skew", labels: &labels };
    let mut gateway = pod.gateway_that_trusts(folder.path(), between.address, &between.root, &[]).unwrap();
    gateway.ready().unwrap();
    until_answer(address, &routes.host("odd-0"), "first").await.unwrap();
    let streams = connection(&gateway).await["streams"].clone();

    // The controller has a condition more than the gateway: all that have it stay as they were, and say so.
    later.has_weather.store(true, Ordering::Relaxed);
    routes.apply_all(all("second")).await.unwrap();
    until_answer(address, &routes.host("plain"), "second").await.unwrap();
    controller.until("all refusals", "/debug/proxies", |page| refused(page).len() == ODD).await.unwrap();
    let said = "0/1 proxies; gw-skew.meshgate-system refuses it: unknown field `weather`";
    for name in odd() {
        until_programmed(&routes, &name, ("False", "Refused", said)).await;
        assert_eq!(answer(address, &routes.host(&name)).await, "first");
    }
    until_programmed(&routes, "plain", ("True", "Programmed", "1/1 proxies")).await;
    assert_eq!(controller.metric("meshgate_controller_proxies_refusing").await.unwrap(), 1.0);

    // What comes afterwards and is understood makes none of it good.
    routes.apply("plain", "third").await.unwrap();
    until_answer(address, &routes.host("plain"), "third").await.unwrap();
    until_programmed(&routes, "plain", ("True", "Programmed", "1/1 proxies")).await;
    let page = controller.page("/debug/proxies").await;
    assert_eq!(refused(&page).len(), ODD, "{page:#}");
    until_programmed(&routes, "odd-0", ("False", "Refused", said)).await;

    // What is understood again is in force.
    later.has_weather.store(false, Ordering::Relaxed);
    routes.apply_all(all("fourth")).await.unwrap();
    for name in odd() {
        until_answer(address, &routes.host(&name), "fourth").await.unwrap();
        until_programmed(&routes, &name, ("True", "Programmed", "1/1 proxies")).await;
    }
    assert_eq!(refused(&controller.page("/debug/proxies").await), [""; 0]);
    assert_eq!(connection(&gateway).await["streams"], streams, "{}", gateway.log());
    routes.clear().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_one_end_does_not_know_end_no_stream() {
    let Some(_) = cluster::folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = trouble::prepare();
    let routes = routes_of("skew").await;
    routes.apply("plain", "first").await.unwrap();
    let kubeconfig = trouble::own_kubeconfig(folder.path());
    let controller = trouble::start_with(folder.path(), "skew-types", None, &kubeconfig);
    let later = Arc::new(Later { asks_for_type: AtomicBool::new(true), ..Later::default() });
    let between = Between::start(folder.path(), controller.discovery, later.clone()).await.unwrap();
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let pod = Pod { namespace: SYSTEM, name: "gw-skew-types", labels: &labels };
    let mut gateway = pod.gateway_that_trusts(folder.path(), between.address, &between.root, &[]).unwrap();
    gateway.ready().unwrap();

    // The gateway is the later one: it asked for something that the controller does not have.
    until_answer(address, &routes.host("plain"), "first").await.unwrap();
    let log = controller.log();
    assert!(log.contains(&format!("asks for `{WEATHER}`, which this version does not have")), "{log}");

    // The controller is: it sends something that the gateway did not ask for.
    later.sends_type.store(true, Ordering::Relaxed);
    routes.apply("plain", "second").await.unwrap();
    until_answer(address, &routes.host("plain"), "second").await.unwrap();
    until_programmed(&routes, "plain", ("True", "Programmed", "1/1 proxies")).await;
    let answers = later.answers.lock().unwrap().clone();
    let [refusal] = &*answers else { panic!("{answers:?}") };
    assert_eq!(refusal.type_url, WEATHER);
    let why = &refusal.error_detail.as_ref().unwrap().message;
    assert!(why.contains("plain.skew.example: this version does not know the type"), "{why}");
    assert_eq!(connection(&gateway).await["streams"], 1, "{}", gateway.log());
    let page = controller.page("/debug/proxies").await;
    assert_eq!(page["proxies"].as_array().map(Vec::len), Some(1), "{page:#}");
    routes.clear().await.unwrap();
}
