use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::observe::record_samples::{forwarded, malformed, refused, unrouted};
use crate::observe::{RecordHeaders, RequestRecord};

fn line(format: &LogFormat, record: &RequestRecord<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn text_lines_are_those_of_envoy() {
    let format = LogFormat::default_text();
    let lines: String =
        [forwarded(), malformed(), unrouted(), refused()].iter().map(|record| line(&format, record)).collect();
    insta::assert_snapshot!(lines, @r#"
    [2025-11-25T02:45:14.123Z] "GET /p HTTP/1.1" 200 - via_upstream - "-" 0 279 0 0 "127.0.0.1" "curl/8" "90a6a1df" "x" "127.0.10.11:18080" outbound|80||echo.default.svc.cluster.local 127.0.0.1:46120 127.0.0.1:80 127.0.0.1:55238 - -
    [2025-11-25T02:45:14.123Z] "- - HTTP/1.1" 400 DPE http1.codec_error - "-" 0 16 0 - "-" "-" "-" "-" "-" - - 127.0.0.1:80 127.0.0.1:55238 - -
    [2025-11-25T02:45:14.123Z] "GET /x HTTP/1.1" 404 NR route_not_found - "-" 0 0 0 - "127.0.0.1" "-" "90a6a1df" "only.example.com" "-" - - 127.0.0.1:80 127.0.0.1:55238 - -
    [2025-11-25T02:45:14.123Z] "GET /dead HTTP/1.1" 503 URX,UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} - "delayed_connect_error:_Connection_refused" 0 121 34 - "127.0.0.1" "-" "90a6a1df" "only.example.com" "127.0.10.14:18080" outbound|80||dead.default.svc.cluster.local - 127.0.0.1:80 127.0.0.1:55238 - -
    "#);
}

#[test]
fn what_a_client_sends_ends_neither_field_nor_line() {
    let record = RequestRecord { user_agent: "u\"a\\\n\x7f\u{e9}", ..forwarded() };
    let text = line(&LogFormat::default_text(), &record);
    assert!(text.contains(r#" "u\"a\\\x0a\x7fé" "#), "{text}");
    let json: serde_json::Value = serde_json::from_str(&line(&LogFormat::default_json(), &record)).unwrap();
    assert_eq!(json["user_agent"], "u\"a\\\n\x7f\u{e9}");
}

#[test]
fn json_has_the_24_fields_with_their_types() {
    let format = LogFormat::default_json();
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&line(&format, &RequestRecord { route_name: Some("r"), ..forwarded() })).unwrap();
    assert_eq!(json.len(), 24);
    assert_eq!(json["response_code"], 200);
    assert_eq!(json["bytes_sent"], 279);
    assert_eq!(json["route_name"], "r");
    assert_eq!(json["response_flags"], "-");
    assert_eq!(json["upstream_transport_failure_reason"], serde_json::Value::Null);
    assert_eq!(json["downstream_local_address"], "127.0.0.1:80");
    let json: serde_json::Value = serde_json::from_str(&line(&format, &refused())).unwrap();
    assert_eq!(json["upstream_transport_failure_reason"], "delayed_connect_error:_Connection_refused");
}

struct Headers;

impl RecordHeaders for Headers {
    fn request_header(&self, name: &str) -> Option<&str> {
        (name == "x-b3-traceid").then_some("463ac35c9f6413ad")
    }

    fn response_header(&self, name: &str) -> Option<&str> {
        (name == "content-type").then_some("text/html")
    }
}

#[test]
fn custom_formats() {
    let record = RequestRecord { path: "/p?q=1", headers: Some(&Headers), ..forwarded() };
    let of = |format: &str| {
        let (format, problems) = LogFormat::text(format);
        (line(&format, &record), problems)
    };
    let cases = [
        ("%START_TIME(%Y/%m/%d)% 100%%", "2025/11/25 100%\n"),
        ("%REQ(X-B3-TRACEID)% %REQ(X-B3-TRACEID):4% %REQ(x-none?user-agent)%", "463ac35c9f6413ad 463a curl/8\n"),
        ("%RESP(Content-Type)% %RESP(x-none)%\n", "text/html -\n"),
        ("%REQ_WITHOUT_QUERY(:PATH)% %REQ(:PATH)%", "/p /p?q=1\n"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "127.0.0.1 80\n"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1\n"),
        ("%GRPC_STATUS% %MESHGATE_GENERATION% %DYNAMIC_METADATA(istio:x)%", "- 7 -\n"),
    ];
    for (format, expected) in cases {
        assert_eq!(of(format), (expected.to_owned(), vec![]), "{format}");
    }
    assert!(LogFormat::text("%RESP(a)%").0.wants_response_headers());
    assert!(!LogFormat::default_text().wants_response_headers() && !LogFormat::default_json().wants_response_headers());
    assert_eq!(of("%NONSENSE%").0, "-\n");
    assert_eq!(of("%NONSENSE%").1.len(), 1);
    assert_eq!(of("open %REQ(").1.len(), 1);
    let (format, problems) = LogFormat::json(r#"{"code": "%RESPONSE_CODE%", "both": "%PROTOCOL% %RESPONSE_CODE%"}"#);
    assert!(problems.is_empty());
    assert_eq!(line(&format, &record), "{\"code\":200,\"both\":\"HTTP/1.1 200\"}\n");
    assert_eq!(LogFormat::json("nonsense").1.len(), 1);
}

#[test]
fn a_file_is_written_reopened_and_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let settings =
        LogSettings { target: LogTarget::File(path.clone()), json: false, format: Some("%PROTOCOL%".into()) };
    let dropped = Arc::new(AtomicU64::new(0));
    let (log, problems) = AccessLog::open(settings, dropped.clone()).unwrap();
    assert!(problems.is_empty());
    let mut line = Vec::new();
    for _ in 0..100 {
        log.write(&forwarded(), &mut line);
    }
    log.flush(Duration::from_secs(10));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "HTTP/1.1\n".repeat(100));
    let renamed = directory.path().join("access.log.1");
    std::fs::rename(&path, &renamed).unwrap();
    log.reopen();
    log.write(&forwarded(), &mut line);
    log.flush(Duration::from_secs(10));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "HTTP/1.1\n");
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_stuck_writer_costs_lines() {
    let sink = Sink::default();
    let line = vec![b'x'; QUEUE_LIMIT / 2];
    for _ in 0..4 {
        sink.push(&line);
    }
    assert_eq!(sink.dropped.load(Ordering::Relaxed), 2);
}
