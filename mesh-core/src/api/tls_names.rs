//! Names of cipher suites and key exchange groups, as Istio validates them. Which of them are offered is decided here: those that
//! nobody should use any more are known, and never are.

/// A name, and whether it can be offered.
type Names = &'static [(&'static str, bool)];

/// Suites of TLS 1.2, as OpenSSL calls them. Those of TLS 1.3 cannot be chosen.
pub const CIPHER_SUITES: Names = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", true),
    ("ECDHE-RSA-AES128-GCM-SHA256", true),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", true),
    ("ECDHE-RSA-AES256-GCM-SHA384", true),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", true),
    ("ECDHE-RSA-CHACHA20-POLY1305", true),
    ("ECDHE-ECDSA-AES128-SHA", false),
    ("ECDHE-RSA-AES128-SHA", false),
    ("ECDHE-ECDSA-AES256-SHA", false),
    ("ECDHE-RSA-AES256-SHA", false),
    ("ECDHE-PSK-AES128-CBC-SHA", false),
    ("ECDHE-PSK-AES256-CBC-SHA", false),
    ("ECDHE-PSK-CHACHA20-POLY1305", false),
    ("AES128-GCM-SHA256", false),
    ("AES256-GCM-SHA384", false),
    ("AES128-SHA", false),
    ("AES256-SHA", false),
    ("PSK-AES128-CBC-SHA", false),
    ("PSK-AES256-CBC-SHA", false),
    ("DES-CBC3-SHA", false),
];

/// Key exchange groups.
pub const GROUPS: Names = &[
    ("X25519MLKEM768", true),
    ("X25519", true),
    ("P-256", true),
    ("P-384", true),
    ("P-521", false),
    ("P256Kyber768", false),
    ("X25519Kyber768Draft00", false),
];

/// Those of a list that can be offered, each once, in its order.
pub fn offered(written: &[String], names: Names) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in written.iter().filter(|name| names.contains(&(name.as_str(), true))) {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// Why a name is not offered. None: it is.
pub(super) fn problem(written: &str, names: Names) -> Option<&'static str> {
    match names.iter().find(|(name, _)| *name == written) {
        Some((_, true)) => None,
        Some((_, false)) => Some("it is not offered: it is not safe any more, or nobody has it"),
        None => Some("there is none of this name"),
    }
}
