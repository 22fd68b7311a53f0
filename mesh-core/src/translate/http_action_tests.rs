use std::time::Duration;

use super::super::fixture::{docs, forward};
use crate::diag;
use crate::model::{
    Abort, AbortStatus, Action, Delay, DestinationRef, DirectResponse, HeaderOp, PathRewrite, Redirect, RedirectPath,
    RedirectPort, RetryOn, RetryPolicy, Rule, Share,
};

fn translate(http: &str) -> super::super::Translation {
    docs()
        .http("'*'")
        .service("default/x", 80)
        .service("default/y", 80)
        .vs("default/v", "a.com", http)
        .translate_anyway()
}

fn only(http: &str) -> Rule {
    translate(http).rules("a.com")[0].clone()
}

fn redirect(settings: &str) -> Redirect {
    match &*only(&format!("{{redirect: {{{settings}}}}}")).action {
        Action::Redirect(redirect) => redirect.clone(),
        other => unreachable!("{other:?}"),
    }
}

const ROUTE: &str = "route: [{destination: {host: x}}]";

#[test]
fn weights() {
    let two =
        |a: &str, b: &str| format!("{{route: [{{destination: {{host: x}}{a}}}, {{destination: {{host: y}}{b}}}]}}");
    let weights = |rule: &Rule| forward(rule).splits.iter().map(|split| split.weight).collect::<Vec<_>>();
    assert_eq!(weights(&only(&two(", weight: 3", ", weight: 1"))), [3, 1]);
    assert_eq!(weights(&only(&two(", weight: 3", ", weight: 0"))), [3], "weight 0 is dropped");
    assert_eq!(weights(&only(&two(", weight: 3", ""))), [3], "a missing weight is 0");
    assert_eq!(weights(&only("{route: [{destination: {host: x}, weight: 0}]}")), [1], "a single weight does not count");
}

#[test]
fn retries() {
    let retry = |settings: &str| (*forward(&only(&format!("{{{ROUTE}{settings}}}"))).retry).clone();
    let on = |text: &str| RetryOn::try_from(text.to_owned()).unwrap();
    let usual = "connect-failure,refused-stream,unavailable,cancelled";
    let of = |attempts: u32, words: &str| RetryPolicy { attempts, on: on(words), ..RetryPolicy::default() };
    assert_eq!(retry(""), of(2, usual));
    assert_eq!(retry(", retries: {attempts: 5}"), of(5, usual));
    assert_eq!(retry(", retries: {attempts: 0}"), RetryPolicy::default());
    assert_eq!(retry(", retries: {}"), RetryPolicy::default());
    assert_eq!(retry(", retries: {attempts: 1, retryOn: '5xx,gateway-error'}"), of(1, "5xx,gateway-error"));
    let every = "5xx,gateway-error,reset,reset-before-request,connect-failure,envoy-ratelimited,retriable-4xx,\
                 refused-stream,cancelled,deadline-exceeded,internal,resource-exhausted,unavailable";
    let none = "retriable-status-codes,retriable-headers,http3-post-connect-failure";
    assert_eq!(retry(&format!(", retries: {{attempts: 1, retryOn: '{every},{none}'}}")), of(1, every));
    assert_eq!(retry(&format!(", retries: {{attempts: 1, retryOn: '{none}'}}")), of(1, ""));
    let codes = RetryPolicy { statuses: vec![503, 404], ..of(1, "reset") };
    assert_eq!(retry(", retries: {attempts: 1, retryOn: '503,reset,404'}"), codes);
}

#[test]
fn the_rest_of_a_retry_policy() {
    let settings =
        "attempts: 1, perTryTimeout: 2s, backoff: 50ms, retryIgnorePreviousHosts: false, retryRemoteLocalities: true";
    let retry = &forward(&only(&format!("{{{ROUTE}, retries: {{{settings}}}}}"))).retry.clone();
    assert_eq!(retry.per_try_timeout, Some(Duration::from_secs(2)));
    assert_eq!(retry.backoff, Some(Duration::from_millis(50)));
    assert!(retry.same_hosts && retry.remote_localities);
    let retry = &forward(&only(&format!("{{{ROUTE}, retries: {{attempts: 1, retryIgnorePreviousHosts: true}}}}")))
        .retry
        .clone();
    assert!(!retry.same_hosts && !retry.remote_localities);
}

#[test]
fn the_mesh_can_have_a_retry_policy() {
    let t = docs()
        .http("'*'")
        .service("default/x", 80)
        .add("ConfigMap", "istio-system/istio", "data:\n  mesh: |\n    defaultHttpRetryPolicy: {attempts: 7}")
        .vs("default/v", "a.com", &format!("{{{ROUTE}}}"))
        .translate();
    assert_eq!(forward(&t.rules("a.com")[0]).retry.attempts, 7);
}

#[test]
fn timeouts_are_off_unless_set() {
    assert_eq!(forward(&only(&format!("{{{ROUTE}}}"))).timeout, None);
    assert_eq!(forward(&only(&format!("{{{ROUTE}, timeout: 1.5s}}"))).timeout, Some(Duration::from_millis(1500)));
}

#[test]
fn rewrites() {
    let rule = only(&format!("{{match: [{{uri: {{prefix: /a}}}}], {ROUTE}, rewrite: {{uri: /b, authority: b.com}}}}"));
    let rewrite = &forward(&rule).rewrite;
    assert_eq!(rewrite.path, Some(PathRewrite::Prefix("/b".into())));
    assert_eq!(rewrite.authority.as_deref(), Some("b.com"));
    let rule = only(&format!(r"{{{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '^/(.*)$', rewrite: '/x/\1'}}}}}}"));
    let regex = PathRewrite::Regex { pattern: "^/(.*)$".into(), substitution: r"/x/\1".into() };
    assert_eq!(forward(&rule).rewrite.path, Some(regex));
}

#[test]
fn redirects() {
    let plain = Redirect { status: 301, scheme: None, authority: None, port: RedirectPort::Keep, path: None };
    let full = |path: &str| Some(RedirectPath::Full(path.into()));
    assert_eq!(redirect("uri: /a"), Redirect { path: full("/a"), ..plain.clone() });
    assert_eq!(redirect("uri: a?b"), Redirect { path: full("/a?b"), ..plain.clone() });
    assert_eq!(
        redirect("scheme: https, authority: b.com, redirectCode: 308, port: 444"),
        Redirect {
            status: 308,
            scheme: Some("https".into()),
            authority: Some("b.com".into()),
            port: RedirectPort::Number(444),
            ..plain.clone()
        }
    );
    assert_eq!(redirect("uri: /a, derivePort: FROM_REQUEST_PORT").port, RedirectPort::Request);
    assert_eq!(redirect("uri: /a, derivePort: FROM_PROTOCOL_DEFAULT").port, RedirectPort::ProtocolDefault);
}

#[test]
fn prefix_redirects() {
    let rule = only("{match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b}}");
    let Action::Redirect(redirect) = &*rule.action else { unreachable!() };
    assert_eq!(redirect.path, Some(RedirectPath::Prefix("/b".into())));
}

#[test]
fn direct_responses() {
    let answer = |settings: &str| match &*only(&format!("{{directResponse: {{{settings}}}}}")).action {
        Action::Respond(answer) => answer.clone(),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(answer("status: 503"), DirectResponse { status: 503, body: None });
    assert_eq!(answer("status: 200, body: {string: hi}"), DirectResponse { status: 200, body: Some(b"hi".to_vec()) });
    assert_eq!(answer("status: 200, body: {bytes: aGk=}"), DirectResponse { status: 200, body: Some(b"hi".to_vec()) });
}

#[test]
fn header_operations_of_both_levels() {
    let headers =
        "headers: {request: {set: {Host: b.com, X-A: '1', x-empty: ''}, remove: [X-B]}, response: {add: {x-c: '2'}}}";
    let rule = only(&format!("{{{ROUTE}, {headers}}}"));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        rule.headers.request,
        HeaderOp { remove: vec!["x-b".into()], set: vec![pair(":authority", "b.com"), pair("x-a", "1")], add: vec![] }
    );
    assert_eq!(rule.headers.response.add, [pair("x-c", "2")]);
    let rule = only(&format!("{{route: [{{destination: {{host: x}}, {headers}}}]}}"));
    assert!(rule.headers.request.is_empty());
    assert_eq!(forward(&rule).splits[0].headers.request.remove, ["x-b"]);
}

#[test]
fn rules_without_an_action_answer_500() {
    // Only an object that does not come through the parser can be like this.
    let world = docs().http("'*'").vs("default/v", "a.com", &format!("{{{ROUTE}}}")).world();
    let entry = world.virtual_service("default", "v").unwrap();
    let mut spec = entry.spec.clone();
    spec.http[0].route.clear();
    let mut world = world.clone();
    world.apply(vec![crate::api::ApiObject {
        meta: entry.meta.clone(),
        spec: crate::api::Spec::VirtualService(spec),
        positions: entry.positions.clone(),
    }]);
    let t = super::super::translate(&world, &super::super::fixture::proxy());
    let Action::Respond(answer) = &*t.rules("a.com")[0].action else { unreachable!() };
    assert_eq!(answer.status, 500);
    assert_eq!(t.said(diag::RULE_INCOMPLETE).len(), 1);
}

#[test]
fn faults() {
    let fault = |settings: &str| forward(&only(&format!("{{{ROUTE}, fault: {{{settings}}}}}"))).fault.clone();
    let both = fault(
        "delay: {fixedDelay: 2s, percentage: {value: 0.01}}, abort: {grpcStatus: UNAUTHENTICATED, percentage: {value: 100}}",
    );
    let both = both.unwrap();
    let share = Share::of_percent(0.01).unwrap();
    assert_eq!(both.delay, Some(Delay { time: Duration::from_secs(2), share }));
    assert_eq!(both.abort, Some(Abort { status: AbortStatus::Grpc(16), share: Share::ALL }));
    let finest = fault("abort: {httpStatus: 500, percentage: {value: 0.0001}}").unwrap().abort.unwrap();
    assert_eq!(finest.share.to_string(), "0.0001%");
    // No percentage is none, and an old whole one counts only without a new one.
    assert_eq!(fault("abort: {httpStatus: 500}, delay: {fixedDelay: 1s}"), None);
    let old = fault("delay: {fixedDelay: 1s, percent: 25}").unwrap().delay.unwrap();
    assert_eq!(old.share.to_string(), "25%");
    assert_eq!(fault("delay: {fixedDelay: 1s, percent: 25, percentage: {value: 0}}"), None);
}

#[test]
fn mirrors() {
    let mirrors = |settings: &str| {
        let rule = only(&format!("{{{ROUTE}, {settings}}}"));
        let shown = forward(&rule).mirrors.iter().map(|mirror| match &mirror.destination {
            DestinationRef::Known(key) => format!("{} {key}", mirror.share),
            DestinationRef::Unknown(key) => format!("{} !{key}", mirror.share),
        });
        shown.collect::<Vec<_>>()
    };
    let y = "outbound|80||y.default.svc.cluster.local";
    assert_eq!(mirrors("mirror: {host: y}"), [format!("100% {y}")]);
    assert_eq!(mirrors("mirror: {host: y}, mirrorPercent: 30"), [format!("30% {y}")]);
    assert_eq!(mirrors("mirror: {host: y}, mirrorPercent: 30, mirrorPercentage: {value: 2.5}"), [format!("2.5% {y}")]);
    assert_eq!(mirrors("mirror: {host: y}, mirrorPercentage: {}"), [""; 0], "no value is 0");
    let several = "mirrors: [{destination: {host: y}}, {destination: {host: z}, percentage: {value: 1}}]";
    assert_eq!(mirrors(several), [format!("100% {y}"), "1% !outbound|80||z.default.svc.cluster.local".to_owned()]);
    let t = translate(&format!("{{{ROUTE}, {several}}}"));
    assert!(t.set.destinations.contains_key(y), "it is told where that is");
    let found = t.diagnostics.iter().find(|found| found.code == diag::DESTINATION_HOST_UNKNOWN.id).unwrap();
    assert_eq!(found.field, "spec.http[0].mirrors[1].destination.host");
}
