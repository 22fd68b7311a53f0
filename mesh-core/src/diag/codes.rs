//! The table of codes. MESH00xx: syntax of objects (`api`); 01xx: meaning (`world`, `translate`); 02xx: `compile`;
//! 03xx: what only a running gateway can see (certificates, sockets). Every code is used somewhere.

use super::{Code, Severity};

macro_rules! codes {
    ($($name:ident = $id:literal, $severity:ident, $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code { id: $id, severity: Severity::$severity, title: $title };)*
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
    REGEX_REFUSED = "MESH0201", Error, "a regular expression is refused, so it never matches";
    HEADER_OP_REFUSED = "MESH0202", Error, "a header operation is refused, so it has no effect";
    ROUTES_MISSING = "MESH0203", Error, "a listener names routes that do not exist";
    CERTIFICATE_UNUSABLE = "MESH0301", Error, "a certificate or its key cannot be used";
    CERTIFICATE_TIME = "MESH0302", Warning, "a certificate is expired, expires soon, or is not valid yet";
    CERTIFICATE_HOST = "MESH0303", Warning, "a certificate is not valid for a host of its server";
    LISTENER_NOT_OPEN = "MESH0304", Error, "the address of a listener cannot be opened";
}
