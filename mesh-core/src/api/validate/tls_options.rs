//! `servers[].tls` of a Gateway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::tls_names::{self, CIPHER_SUITES, GROUPS};
use super::super::{ServerTls, ServerTlsMode, TlsProtocol};
use super::{Checks, is_set};

/// Bytes of a SHA-256.
const HASH: usize = 32;

/// Where certificates can come from.
struct Sources {
    files: bool,
    credential: bool,
    credentials: bool,
    list: bool,
}

impl Sources {
    fn of(tls: &ServerTls) -> Self {
        Self {
            files: is_set(tls.server_certificate.as_ref()) && is_set(tls.private_key.as_ref()),
            credential: is_set(tls.credential_name.as_ref()),
            credentials: !tls.credential_names.is_empty(),
            list: !tls.tls_certificates.is_empty(),
        }
    }

    fn count(&self) -> usize {
        [self.files, self.credential, self.credentials, self.list].into_iter().filter(|given| *given).count()
    }
}

/// `at`: path of the `tls` block.
pub(super) fn check(at: &str, tls: &ServerTls, checks: &mut Checks<'_>) {
    let mode = tls.mode.unwrap_or_default();
    if tls
        .min_protocol_version
        .is_some_and(|min| tls.max_protocol_version.is_some_and(|max| min > max && max != TlsProtocol::Auto))
    {
        checks.error(format_args!("{at}.minProtocolVersion"), "the minimum is above `maxProtocolVersion`", "");
    }
    if matches!(tls.min_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1)) && tls.cipher_suites.is_empty() {
        let message = "versions below TLSV1_2 have no cipher suites among the defaults";
        checks.doubt(format_args!("{at}.minProtocolVersion"), message, "list `cipherSuites` too");
    }
    offered(at, "cipherSuites", &tls.cipher_suites, CIPHER_SUITES, checks);
    offered(at, "ecdhCurves", &tls.ecdh_curves, GROUPS, checks);
    match mode {
        ServerTlsMode::IstioMutual => mesh_certificates(at, tls, checks),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => passthrough(at, tls, checks),
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            one_source(at, tls, checks);
            certificates(at, tls, mode, checks);
        }
    }
    clients(at, tls, mode, checks);
}

/// What cannot be offered, of what is to be.
fn offered(at: &str, field: &str, written: &[String], names: &'static [(&'static str, bool)], checks: &mut Checks<'_>) {
    for (index, name) in written.iter().enumerate() {
        if let Some(problem) = tls_names::problem(name, names) {
            let known: Vec<&str> = names.iter().filter(|(_, offered)| *offered).map(|(name, _)| *name).collect();
            let help = format!("those that can be offered: {}", known.join(", "));
            checks.doubt(format_args!("{at}.{field}[{index}]"), format!("`{name}`: {problem}"), &help);
        }
    }
    if !written.is_empty() && tls_names::offered(written, names).is_empty() {
        checks.doubt(format_args!("{at}.{field}"), "none of these can be offered; the usual ones are", "");
    }
}

/// Which client certificates are good.
fn clients(at: &str, tls: &ServerTls, mode: ServerTlsMode, checks: &mut Checks<'_>) {
    let given = [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("verifyCertificateHash", !tls.verify_certificate_hash.is_empty()),
        ("verifyCertificateSpki", !tls.verify_certificate_spki.is_empty()),
        ("insecureSkipVerify", tls.insecure_skip_verify == Some(true)),
        ("caCertCredentialName", is_set(tls.ca_cert_credential_name.as_ref())),
    ];
    if !asks(mode) {
        // Of the mesh's clients the names may be asked for.
        let given = if mode == ServerTlsMode::IstioMutual { &[][..] } else { &given };
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            let message = format!("`{field}` is about client certificates, and nobody is asked for one");
            checks.doubt(format_args!("{at}.{field}"), message, "set `mode: MUTUAL` or `OPTIONAL_MUTUAL`");
        }
        return;
    }
    let hashes = tls.verify_certificate_hash.iter().enumerate();
    for (index, _) in hashes.filter(|(_, text)| !is_hexadecimal_hash(text)) {
        let message = "this is no SHA-256 in hexadecimal, so no certificate has it";
        checks.doubt(format_args!("{at}.verifyCertificateHash[{index}]"), message, "64 digits, with or without colons");
    }
    let hashes = tls.verify_certificate_spki.iter().enumerate();
    for (index, _) in hashes.filter(|(_, text)| BASE64.decode(text).map_or(true, |bytes| bytes.len() != HASH)) {
        let message = "this is no SHA-256 in base64, so no certificate has it";
        checks.doubt(format_args!("{at}.verifyCertificateSpki[{index}]"), message, "44 characters, the last is `=`");
    }
    if tls.insecure_skip_verify == Some(true) {
        let message = "every client certificate is accepted; its names say nothing";
        checks.doubt(format_args!("{at}.insecureSkipVerify"), message, "");
    }
}

fn is_hexadecimal_hash(text: &str) -> bool {
    let digits = text.replace(':', "");
    digits.len() == HASH * 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn asks(mode: ServerTlsMode) -> bool {
    matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual)
}

/// ISTIO_MUTUAL uses the mesh's own certificates.
fn mesh_certificates(at: &str, tls: &ServerTls, checks: &mut Checks<'_>) {
    let given = [
        ("serverCertificate", is_set(tls.server_certificate.as_ref())),
        ("privateKey", is_set(tls.private_key.as_ref())),
        ("caCertificates", is_set(tls.ca_certificates.as_ref())),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", is_set(tls.credential_name.as_ref())),
        ("credentialNames", !tls.credential_names.is_empty()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        let message =
            format!("`{field}` cannot be combined with mode ISTIO_MUTUAL, which uses the mesh's certificates");
        checks.error(format_args!("{at}.{field}"), message, "");
    }
}

/// The mode of an absent `mode`, too, which surprises: a certificate without `mode: SIMPLE` is never used.
fn passthrough(at: &str, tls: &ServerTls, checks: &mut Checks<'_>) {
    one_source(at, tls, checks);
    let files = [&tls.ca_crl, &tls.server_certificate, &tls.private_key, &tls.ca_certificates, &tls.credential_name];
    let lists = !tls.tls_certificates.is_empty() || !tls.credential_names.is_empty();
    if lists || files.into_iter().any(|text| is_set(text.as_ref())) {
        let (message, help) = match tls.mode {
            None => (
                "without `mode`, TLS is passed through and certificates are ignored",
                "set `mode: SIMPLE` to terminate TLS here",
            ),
            Some(_) => ("TLS is passed through, so the certificates are ignored", ""),
        };
        checks.doubt(format_args!("{at}.mode"), message, help);
    }
}

fn one_source(at: &str, tls: &ServerTls, checks: &mut Checks<'_>) {
    if Sources::of(tls).count() > 1 {
        let message = "certificates are given in more than one way";
        let help = "keep one of `credentialName`, `credentialNames`, `tlsCertificates`, and `serverCertificate` with \
                    `privateKey`";
        checks.error(at, message, help);
    }
    for (field, count) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        if count > 2 {
            let message = format!("{count} certificates are more than the two that are supported");
            checks.doubt(format_args!("{at}.{field}"), message, "one RSA and one ECDSA certificate can be given");
        }
    }
}

fn certificates(at: &str, tls: &ServerTls, mode: ServerTlsMode, checks: &mut Checks<'_>) {
    let sources = Sources::of(tls);
    let crl = is_set(tls.ca_crl.as_ref());
    if sources.credential || sources.credentials {
        if crl {
            let help = "the secret has it as `ca.crl`";
            checks.doubt(format_args!("{at}.caCrl"), "with `credentialName`, `caCrl` is not used", help);
        }
        return;
    }
    if crl && mode == ServerTlsMode::Simple {
        let message = "`caCrl` cannot be combined with mode SIMPLE, which has no client certificates";
        checks.error(format_args!("{at}.caCrl"), message, "");
    }
    let mut listed = tls.tls_certificates.iter().map(|pair| &pair.ca_certificates);
    let has_authority = is_set(tls.ca_certificates.as_ref())
        || is_set(tls.ca_cert_credential_name.as_ref())
        || listed.any(|path| is_set(path.as_ref()))
        || tls.insecure_skip_verify == Some(true);
    if asks(mode) && !has_authority {
        let message = "client certificates need a CA bundle to be verified with";
        checks.missing(format_args!("{at}.caCertificates"), message, "set `credentialName` or `caCertificates`");
    }
    let help = "set `credentialName`, or `serverCertificate` and `privateKey`";
    let mut pair = |at: &str, certificate: Option<&String>, key: Option<&String>| {
        if !is_set(certificate) {
            checks.missing(format_args!("{at}.serverCertificate"), "a server certificate is required", help);
        }
        if !is_set(key) {
            checks.missing(format_args!("{at}.privateKey"), "a private key is required", help);
        }
    };
    if tls.tls_certificates.is_empty() {
        pair(at, tls.server_certificate.as_ref(), tls.private_key.as_ref());
    }
    for (index, one) in tls.tls_certificates.iter().enumerate() {
        pair(&format!("{at}.tlsCertificates[{index}]"), one.server_certificate.as_ref(), one.private_key.as_ref());
    }
}
