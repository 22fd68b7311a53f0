//! The table of codes. MESH00xx: syntax of objects (`api`); 01xx: meaning (`world`, `translate`); 02xx: `compile`;
//! 03xx: what only a running gateway can see (certificates, sockets). Every code is used somewhere.

use super::{Code, Severity};

macro_rules! codes {
    ($($name:ident = $id:literal, $severity:ident, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code { id: $id, severity: Severity::$severity, name: stringify!($name), title: $title };)*
        /// Every code, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    YAML_SYNTAX = "MESH0001", Error, "the document is not valid YAML";
    UNKNOWN_KIND = "MESH0002", Info, "objects of this kind are not read";
    FIELD_INVALID = "MESH0003", Error, "a field has a wrong type or value";
    FIELD_UNKNOWN = "MESH0004", Warning, "the object has no such field";
    FIELD_NOT_BUILT = "MESH0005", Warning, "the field is read, but has no effect yet";
    FIELD_MISSING = "MESH0006", Error, "a required field is missing";
    DUPLICATE_OBJECT = "MESH0007", Warning, "the same object is given twice; the later one counts";
    SOURCE_UNREADABLE = "MESH0008", Error, "a file or directory cannot be read";
    FIELD_DOUBTFUL = "MESH0009", Warning, "a value is allowed, but may not do what was meant";
    GATEWAY_UNKNOWN = "MESH0101", Error, "the VirtualService names a Gateway that does not exist";
    HOST_NOT_IN_GATEWAY = "MESH0102", Warning, "no server of the Gateway serves this host for this VirtualService";
    DESTINATION_HOST_UNKNOWN = "MESH0103", Error, "the destination's host is no known service";
    DESTINATION_SUBSET_UNKNOWN = "MESH0104", Error, "no DestinationRule in force defines the destination's subset";
    DESTINATION_PORT_UNKNOWN = "MESH0105", Error, "the destination's service has no such port";
    SECRET_MISSING = "MESH0106", Error, "the secret of a TLS server does not exist where the gateway runs";
    SECRET_WITHOUT_KEYS = "MESH0107", Error, "the secret holds no certificate and key";
    GATEWAY_NOT_SELECTED = "MESH0108", Info, "the Gateway's selector picks another proxy";
    SERVER_CONFLICT = "MESH0109", Error, "another server has this port already, with another protocol";
    TLS_HOST_DUPLICATE = "MESH0110", Error, "another server of this port serves the same TLS host already";
    RULE_UNREACHABLE = "MESH0111", Warning, "no request can reach the rule";
    SUBSET_WITHOUT_ENDPOINTS = "MESH0112", Info, "the subset selects no endpoint";
    RULE_HOST_UNKNOWN = "MESH0113", Warning, "the DestinationRule's host is no known service";
    REGEX_INVALID = "MESH0114", Error, "the regular expression cannot be used; the rule never matches";
    SERVER_NOT_BUILT = "MESH0115", Error, "servers of this kind are not served yet";
    DESTINATION_NOT_BUILT = "MESH0116", Error, "destinations of this kind are not reached yet";
    SECRET_FORBIDDEN = "MESH0117", Error, "a secret is named that may not be used: of another namespace, or without the right to read it";
    SERVER_WITHOUT_CERTIFICATE = "MESH0118", Error, "the TLS server names no certificate";
    SERVER_WITHOUT_AUTHORITY = "MESH0119", Error, "the TLS server asks for client certificates and has no CA to verify them with";
    MESH_CONFIG_INVALID = "MESH0120", Error, "the mesh configuration cannot be read; defaults are used";
    SUBSET_DUPLICATE = "MESH0121", Warning, "the subset is defined more than once; the first one counts";
    RULE_IGNORED = "MESH0122", Warning, "another DestinationRule for the host counts instead";
    RULE_INCOMPLETE = "MESH0123", Error, "the rule has no usable action; its requests are answered 500";
    CONDITION_NOT_BUILT = "MESH0124", Error, "the condition is not understood yet; the rule never matches";
    HOST_SHARED = "MESH0125", Info, "another VirtualService has rules for the same host; the older one's are tried first";
    DELEGATE_UNKNOWN = "MESH0126", Error, "the delegate does not exist or is not visible; the rule vanishes";
    NOT_EXPORTED = "MESH0127", Warning, "the object is not exported to the namespace of the gateway that it names";
    HOST_TAKEN = "MESH0128", Warning, "an older VirtualService has the host in the mesh; sidecars follow that one alone";
    PROVIDER_UNKNOWN = "MESH0130", Error, "no extension provider that decides has this name; what the policy matches is denied";
    SIDECAR_OVERLAP = "MESH0140", Error, "an older Sidecar selects the same workload and counts there";
    SIDECAR_DUPLICATE = "MESH0141", Error, "an older Sidecar is for all workloads of the namespace, and counts";
    SIDECAR_NOT_BUILT = "MESH0142", Error, "listeners of this kind of a Sidecar are not there yet";
    SIDECAR_PORT_UNCLEAR = "MESH0143", Warning, "a Unix socket does not say which port of a service its bytes are for";
    SIDECAR_SHARED = "MESH0144", Info, "another Sidecar selects the same workload; this one is older and counts";
    MATCH_INEFFECTIVE = "MESH0150", Warning, "no request can reach this alternative of a rule";
    RULE_OVERTAKEN = "MESH0151", Info, "an earlier rule that is not the narrower one takes some of the rule's requests";
    REACH_UNKNOWN = "MESH0152", Info, "whether a request can reach the rule is not known";
    CLAIMS_WITHOUT_AUTHENTICATION = "MESH0153", Error, "a rule asks for claims, and nothing makes the proxy read tokens";
    PROTOCOL_CONFLICT = "MESH0154", Warning, "ServiceEntries say different protocols of one port of one host";
    GATEWAY_PORT_WITHOUT_SERVICE = "MESH0155", Warning, "no Service of the gateway's pods leads to the port";
    DESTINATION_PORT_OPEN = "MESH0156", Warning, "the destination names no port of a service that has several";
    HOST_CONTESTED = "MESH0157", Info, "a younger VirtualService has the host in the mesh, too, and no effect there";
    SELECTOR_EMPTY = "MESH0158", Warning, "the selector selects no workload";
    POLICY_WITHOUT_WORKLOAD = "MESH0159", Warning, "no known workload is one that the policy or limit is for";
    ORDER_IMPOSSIBLE = "MESH0160", Error, "no certificate can be ordered for the host";
    ORDER_NOT_NEEDED = "MESH0162", Info, "a certificate is not ordered, for its secret is somebody else's";
    LIMIT_ALONE = "MESH0163", Info, "a limit that all proxies count together is counted by this one alone, for it has no controller";
    REGEX_REFUSED = "MESH0201", Error, "a regular expression is refused, so it never matches";
    HEADER_OP_REFUSED = "MESH0202", Error, "a header operation is refused, so it has no effect";
    ROUTES_MISSING = "MESH0203", Error, "a listener names routes that do not exist";
    CERTIFICATE_UNUSABLE = "MESH0301", Error, "a certificate or its key cannot be used";
    CERTIFICATE_TIME = "MESH0302", Warning, "a certificate is expired, expires soon, or is not valid yet";
    CERTIFICATE_HOST = "MESH0303", Warning, "a certificate is not valid for a host of its server";
    LISTENER_NOT_OPEN = "MESH0304", Error, "the address of a listener cannot be opened";
    ACCESS_LOG = "MESH0305", Warning, "the access log cannot be written as asked";
    WORKLOAD_CERTIFICATE = "MESH0306", Error, "mutual TLS is asked for where there is no workload certificate";
    TOKEN_KEYS = "MESH0307", Error, "the keys of an issuer of tokens cannot be had; its tokens are refused unless older keys are there";
    CERTIFICATE_ORDER = "MESH0320", Error, "a certificate could not be ordered; it is tried again";
    ORDER_STORAGE = "MESH0321", Error, "where ordered certificates are kept cannot be used";
    ORDER_UNDER_WAY = "MESH0322", Info, "a certificate is being ordered";
}

/// What `istioctl analyze` calls the same, where it knows it.
const ISTIO: &[(Code, &str)] = &[
    (GATEWAY_UNKNOWN, "IST0101"),
    (DESTINATION_HOST_UNKNOWN, "IST0101"),
    (DESTINATION_SUBSET_UNKNOWN, "IST0101"),
    (DESTINATION_PORT_UNKNOWN, "IST0101"),
    (SECRET_MISSING, "IST0101"),
    (SELECTOR_EMPTY, "IST0101"),
    (HOST_TAKEN, "IST0109"),
    (HOST_CONTESTED, "IST0109"),
    (SIDECAR_OVERLAP, "IST0110"),
    (SIDECAR_SHARED, "IST0110"),
    (SIDECAR_DUPLICATE, "IST0111"),
    (DESTINATION_PORT_OPEN, "IST0112"),
    (POLICY_WITHOUT_WORKLOAD, "IST0127"),
    (RULE_UNREACHABLE, "IST0130"),
    (MATCH_INEFFECTIVE, "IST0131"),
    (HOST_NOT_IN_GATEWAY, "IST0132"),
    (CLAIMS_WITHOUT_AUTHENTICATION, "IST0149"),
    (SECRET_WITHOUT_KEYS, "IST0161"),
    (CERTIFICATE_UNUSABLE, "IST0161"),
    (GATEWAY_PORT_WITHOUT_SERVICE, "IST0162"),
    (SUBSET_WITHOUT_ENDPOINTS, "IST0173"),
    (RULE_HOST_UNKNOWN, "IST0174"),
    (PROTOCOL_CONFLICT, "IST0177"),
];

/// Istio's code for one of ours.
#[must_use]
pub fn istio_code(code: &str) -> Option<&'static str> {
    ISTIO.iter().find(|(own, _)| own.id == code).map(|(_, istio)| *istio)
}
