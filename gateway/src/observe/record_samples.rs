//! Records of requests for tests: lines that Envoy was seen to write.

use std::time::{Duration, SystemTime};

use super::{RequestRecord, ResponseFlags};

/// `GET /p` that was answered by an upstream.
pub fn forwarded() -> RequestRecord<'static> {
    RequestRecord {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_038_714_123),
        duration: Duration::from_micros(900),
        method: "GET",
        path: "/p",
        protocol: "HTTP/1.1",
        status: 200,
        attempts: 1,
        flags: ResponseFlags::NONE,
        details: "via_upstream",
        upstream_transport_failure: "",
        bytes_received: 0,
        bytes_sent: 279,
        upstream_service_time: Some(Duration::ZERO),
        forwarded_for: "127.0.0.1",
        user_agent: "curl/8",
        request_id: "90a6a1df",
        authority: "x",
        upstream_host: "127.0.10.11:18080".parse().ok(),
        upstream_cluster: "outbound|80||echo.default.svc.cluster.local",
        upstream_local: "127.0.0.1:46120".parse().ok(),
        downstream_local: ([127, 0, 0, 1], 80).into(),
        downstream_remote: ([127, 0, 0, 1], 55238).into(),
        downstream_direct: ([127, 0, 0, 1], 55238).into(),
        sni: None,
        route_name: None,
        stat_prefix: None,
        grpc: false,
        grpc_status: None,
        request_messages: 0,
        response_messages: 0,
        direction: None,
        cluster: None,
        endpoint: None,
        upstream_peer: None,
        client: None,
        peer_workload: None,
        generation: 7,
        headers: None,
    }
}

/// `GET /x` for which there was no route.
pub fn unrouted() -> RequestRecord<'static> {
    RequestRecord {
        path: "/x",
        status: 404,
        attempts: 0,
        flags: ResponseFlags::NR,
        details: "route_not_found",
        bytes_sent: 0,
        upstream_service_time: None,
        user_agent: "",
        authority: "only.example.com",
        upstream_host: None,
        upstream_cluster: "",
        upstream_local: None,
        ..forwarded()
    }
}

/// Something that was no request.
pub fn malformed() -> RequestRecord<'static> {
    RequestRecord {
        method: "",
        path: "",
        status: 400,
        attempts: 0,
        flags: ResponseFlags::DPE,
        details: "http1.codec_error",
        bytes_sent: 16,
        forwarded_for: "",
        request_id: "",
        authority: "",
        ..unrouted()
    }
}

/// An upstream that refused the connection, also the second time.
pub fn refused() -> RequestRecord<'static> {
    RequestRecord {
        path: "/dead",
        status: 503,
        attempts: 1,
        flags: ResponseFlags::UF | ResponseFlags::URX,
        details: "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error: Connection refused}",
        upstream_transport_failure: "delayed_connect_error: Connection refused",
        bytes_sent: 121,
        duration: Duration::from_millis(34),
        upstream_cluster: "outbound|80||dead.default.svc.cluster.local",
        upstream_host: "127.0.10.14:18080".parse().ok(),
        ..unrouted()
    }
}
