//! How streams end, and that nobody who sends requests notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use controller::push::Ending;
use e2e::client;
use e2e::controller::pod;

use super::*;

fn ended(control: &Control, wanted: Ending) -> u64 {
    control.proxies.endings().all().find(|(ending, _)| *ending == wanted).unwrap().1
}

/// Requests one after the other until told to stop: those that failed. `answered` counts the others.
async fn requests(edge: SocketAddr, stop: Arc<AtomicBool>, answered: Arc<AtomicU32>) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match client::get(edge, "a.example", "/").await {
            Ok(response) if response.status == 200 => drop(answered.fetch_add(1, Ordering::Relaxed)),
            other => failed.push(format!("{other:?}")),
        }
    }
    failed
}

fn backend_route(address: SocketAddr) -> String {
    e2e::fixture::destination("a.example", address, "http").replace("[gw]", &format!("[{NAMESPACE}/edge]"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_the_next_one_goes_on_where_it_was() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    let backend = e2e::backend::Backend::echo("app").await.unwrap();
    control.apply(&(gateway(edge.port()) + "---\n" + &backend_route(backend.address))).await.unwrap();
    let serving = control.serve_for(None, Some(Duration::from_millis(200))).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    until_answer(edge, "b.example", "404").await.unwrap();
    let published = gateway.log().matches("published generation").count();

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let load = tokio::spawn(requests(edge, stop.clone(), answered.clone()));
    for tokens in 1..=3 {
        // Some are answered between any two ends.
        let before = answered.load(Ordering::Relaxed);
        let ends = ended(&control, Ending::TokenExpired);
        eventually("the end of a token", || ended(&control, Ending::TokenExpired) > ends).await.unwrap();
        eventually("an answer", || answered.load(Ordering::Relaxed) > before).await.unwrap();
        assert!(ended(&control, Ending::TokenExpired) >= tokens);
    }
    assert!(gateway.log().contains("the token of this stream expired"), "{}", gateway.log());
    assert_eq!(gateway.log().matches("published generation").count(), published, "sent again: {}", gateway.log());
    // What changes meanwhile arrives.
    control.apply(&route("b.example", "b")).await.unwrap();
    until_answer(edge, "b.example", "b").await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let failed = load.await.unwrap();
    assert!(failed.is_empty(), "{} beside {answered:?}: {:?}", failed.len(), failed.first());
    assert!(!gateway.log().contains("WARN"), "it is in order: {}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_pod() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    control.apply(&gateway(edge.port())).await.unwrap();
    control.apply(&route("a.example", "a")).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();

    // It may belong to another class now: it comes again, and is told what that has.
    control.apply(&pod(UID, "istio: other")).await.unwrap();
    eventually("the end of the stream", || ended(&control, Ending::PodRelabelled) == 1).await.unwrap();
    until_refused(edge).await;
    control.apply(&pod(UID, "istio: ingressgateway")).await.unwrap();
    until_answer(edge, "a.example", "a").await.unwrap();
    assert_eq!(ended(&control, Ending::PodRelabelled), 2);

    // Another pod of that name: the token is not its.
    control.apply(&pod("second", "istio: ingressgateway")).await.unwrap();
    eventually("the end of the stream", || ended(&control, Ending::PodReplaced) == 1).await.unwrap();
    gateway.wait_for_line(|line| line.contains("pod meshgate-system/gw is not known"), client::DEADLINE).unwrap();
    assert!(control.proxies.all().is_empty());
    control.token("pod-gw/second").unwrap();
    eventually("the stream of the other pod", || control.proxies.all().len() == 1).await.unwrap();

    control.delete(&pod("second", "istio: ingressgateway")).await.unwrap();
    eventually("the end of the stream", || ended(&control, Ending::PodDeleted) == 1).await.unwrap();
    assert!(control.proxies.all().is_empty());
    assert_eq!(answer(edge, "a.example").await, "a", "what it had it serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_in_order_says_so_to_the_other_one() {
    let control = Control::start().await.unwrap();
    let edge = edge();
    control.apply(&(gateway(edge.port()) + "---\n" + &route("a.example", "a"))).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    until_answer(edge, "a.example", "a").await.unwrap();

    // The controller starts anew: that is no trouble of the gateway.
    let address = serving.address;
    serving.stop().await;
    let line = gateway.wait_for_line(|line| line.contains("this controller stops"), client::DEADLINE).unwrap();
    assert!(line.contains("INFO"), "{line}");
    assert_eq!(ended(&control, Ending::Stopping), 1);
    let _serving = control.serve(Some(address)).await.unwrap();
    eventually("the gateway, again", || control.proxies.all().len() == 1).await.unwrap();

    // The gateway stops: that is no trouble of the controller.
    gateway.terminate().unwrap();
    assert!(gateway.wait().unwrap().success());
    eventually("the end of the stream", || control.proxies.all().is_empty()).await.unwrap();
    assert_eq!((ended(&control, Ending::Closed), ended(&control, Ending::Broken)), (1, 0));
}

/// Until nobody listens there.
async fn until_refused(address: SocketAddr) {
    let end = std::time::Instant::now() + client::DEADLINE;
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(std::time::Instant::now() < end, "still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
