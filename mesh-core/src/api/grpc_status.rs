//! Names of gRPC statuses, as Istio's API takes them.

/// In the order of their codes (gRPC, `doc/statuscodes.md`).
pub(super) const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The code of a status, `14` of `UNAVAILABLE`.
pub fn grpc_status(name: &str) -> Option<u16> {
    NAMES.iter().zip(0..).find(|(known, _)| **known == name).map(|(_, code)| code)
}
