use std::time::Duration;

use super::{AnswerHead, Loss, RetryOn, RetryPolicy};

fn on(text: &str) -> RetryPolicy {
    let (statuses, words): (Vec<&str>, Vec<&str>) = text.split(',').partition(|word| word.parse::<u16>().is_ok());
    RetryPolicy {
        attempts: 1,
        on: RetryOn::try_from(words.join(",")).unwrap(),
        statuses: statuses.iter().map(|status| status.parse().unwrap()).collect(),
        ..RetryPolicy::default()
    }
}

/// Envoy's default in Istio.
const DEFAULT: &str = "connect-failure,refused-stream,cancelled,unavailable";

#[test]
fn tries_that_are_lost() {
    use Loss::{LateSent, LateUnsent, NotConnected, Refused, Reset};
    for (words, expected) in [
        ("connect-failure", vec![NotConnected]),
        ("refused-stream", vec![Refused]),
        ("reset-before-request", vec![NotConnected, Refused, LateUnsent]),
        ("reset", vec![NotConnected, Refused, Reset, LateUnsent, LateSent]),
        ("5xx", vec![NotConnected, Refused, Reset, LateUnsent, LateSent]),
        ("gateway-error", vec![NotConnected, Refused, Reset, LateUnsent, LateSent]),
        (DEFAULT, vec![NotConnected, Refused]),
        ("retriable-4xx,envoy-ratelimited,internal,503", vec![]),
    ] {
        let policy = on(words);
        let again = [NotConnected, Refused, Reset, LateUnsent, LateSent].into_iter().filter(|loss| policy.after(*loss));
        assert_eq!(again.collect::<Vec<_>>(), expected, "{words}");
    }
}

#[test]
fn answers() {
    let again = |words: &str, status: u16| on(words).after_answer(&AnswerHead { status, ..AnswerHead::default() });
    for (words, statuses) in [
        ("5xx", vec![500, 501, 502, 503, 504, 599]),
        ("gateway-error", vec![502, 503, 504]),
        ("retriable-4xx", vec![409]),
        ("404,503", vec![404, 503]),
        ("reset,connect-failure,refused-stream,reset-before-request", vec![]),
        (DEFAULT, vec![]),
    ] {
        let hit: Vec<u16> = (100..=999).filter(|status| again(words, *status)).collect();
        let expected: Vec<u16> = if words == "5xx" { (500..=599).collect() } else { statuses };
        assert_eq!(hit, expected, "{words}");
    }
    let grpc = |words: &str| -> Vec<u16> {
        let head = |code| AnswerHead { status: 200, grpc_status: Some(code), rate_limited: false };
        (0..17).filter(|code| on(words).after_answer(&head(*code))).collect()
    };
    assert_eq!(grpc(DEFAULT), [1, 14]);
    assert_eq!(grpc("deadline-exceeded,internal,resource-exhausted"), [4, 8, 13]);
    assert_eq!(grpc("5xx"), Vec::<u16>::new());
}

#[test]
fn a_limit_of_the_upstreams_proxy_is_respected() {
    let limited = AnswerHead { status: 503, rate_limited: true, ..AnswerHead::default() };
    assert!(!on("5xx,503").after_answer(&limited));
    assert!(on("envoy-ratelimited").after_answer(&limited));
    assert!(!on("envoy-ratelimited").after_answer(&AnswerHead { rate_limited: false, ..limited }));
}

#[test]
fn a_body_is_kept_only_where_it_may_be_wanted() {
    for (words, plain, grpc, http2) in [
        (DEFAULT, false, true, true),
        ("connect-failure", false, false, false),
        ("reset-before-request", false, false, true),
        ("unavailable", false, true, false),
        ("503", true, true, true),
        ("5xx", true, true, true),
        ("reset", true, true, true),
    ] {
        let policy = on(words);
        let kept = [policy.keeps_body(false, false), policy.keeps_body(true, false), policy.keeps_body(false, true)];
        assert_eq!(kept, [plain, grpc, http2], "{words}");
    }
    assert!(!RetryPolicy { attempts: 0, ..on("5xx") }.keeps_body(true, true));
}

#[test]
fn pauses_grow_to_ten_times_the_base() {
    let longest = |policy: &RetryPolicy| {
        let millis = |attempt| policy.pause(attempt, |limit| limit).as_millis();
        (1..8).map(millis).collect::<Vec<_>>()
    };
    assert_eq!(longest(&RetryPolicy::default()), [25, 50, 100, 200, 250, 250, 250]);
    let policy = RetryPolicy { backoff: Some(Duration::from_secs(1)), ..RetryPolicy::default() };
    assert_eq!(longest(&policy), [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    assert_eq!(policy.pause(1, |_| 0), Duration::ZERO);
    let none = RetryPolicy { backoff: Some(Duration::ZERO), ..RetryPolicy::default() };
    assert_eq!(none.pause(3, |limit| limit), Duration::ZERO);
    let endless = RetryPolicy { backoff: Some(Duration::MAX), ..RetryPolicy::default() };
    assert_eq!(endless.pause(9, |limit| limit), Duration::from_micros(u64::MAX));
}

#[test]
fn words_travel_as_they_are_written() {
    let policy = RetryPolicy { per_try_timeout: Some(Duration::from_secs(1)), ..on("503,unavailable,5xx,404") };
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(
        json,
        r#"{"attempts":1,"on":"5xx,unavailable","statuses":[503,404],"per_try_timeout":{"secs":1,"nanos":0}}"#
    );
    assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), policy);
    assert!(serde_json::from_str::<RetryPolicy>(r#"{"on":"5xx,full-moon"}"#).is_err());
    assert_eq!(policy.to_string(), "up to 1 more try on 5xx,unavailable,503,404, each within 1s");
    assert_eq!(RetryPolicy { attempts: 3, ..on("503") }.to_string(), "up to 3 more tries on 503");
    assert_eq!(RetryPolicy::default().to_string(), "none");
}
