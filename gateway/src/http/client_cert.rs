//! `x-forwarded-client-cert`: what a proxy says of the certificate that its client showed, in Envoy's form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::model::ForwardedCertificates;

use crate::tls::peer_verify::Identity;
use crate::tls::provider::hex;

pub static X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Length of a line of base64 in PEM.
const LINE: usize = 64;

/// What becomes of the header at the edge.
#[derive(Clone, Debug)]
pub enum CertificateHeader {
    Remove,
    Keep,
    Set(HeaderValue),
    Append(HeaderValue),
}

impl CertificateHeader {
    /// For a connection whose client showed this certificate.
    #[must_use]
    pub fn of(forwarded: ForwardedCertificates, peer: Option<&Identity>) -> CertificateHeader {
        let value = |then: fn(HeaderValue) -> CertificateHeader| {
            peer.and_then(of_client).map_or(CertificateHeader::Remove, then)
        };
        match forwarded {
            ForwardedCertificates::Remove => CertificateHeader::Remove,
            ForwardedCertificates::ForwardAlways => CertificateHeader::Keep,
            ForwardedCertificates::Forward if peer.is_some() => CertificateHeader::Keep,
            ForwardedCertificates::Forward => CertificateHeader::Remove,
            ForwardedCertificates::Set => value(CertificateHeader::Set),
            ForwardedCertificates::Append => value(CertificateHeader::Append),
        }
    }

    /// Makes it so. `is_there`: the client said something.
    pub fn apply(&self, headers: &mut HeaderMap, is_there: bool) {
        match self {
            CertificateHeader::Remove if is_there => drop(headers.remove(&X_FORWARDED_CLIENT_CERT)),
            CertificateHeader::Remove | CertificateHeader::Keep => {}
            CertificateHeader::Set(value) => drop(headers.insert(&X_FORWARDED_CLIENT_CERT, value.clone())),
            CertificateHeader::Append(value) => append(headers, value.as_bytes()),
        }
    }
}

/// As the edge tells it: `Hash=…;Cert="…";Subject="CN=…";URI=…;DNS=…`.
#[must_use]
pub fn of_client(peer: &Identity) -> Option<HeaderValue> {
    let mut element = format!("Hash={};Cert=\"{}\"", hex(&peer.hash), url_encoded_pem(peer.certificate()));
    subject_and_uris(&mut element, peer);
    for name in &peer.dns {
        element.push_str(&format!(";DNS={}", quoted(name)));
    }
    HeaderValue::from_bytes(element.as_bytes()).ok()
}

/// At a workload (APPEND_FORWARD): over mutual TLS `By=…;Hash=…;Subject="…";URI=…` behind what the client sent, which is another
/// proxy of the mesh; over clear text there is nobody to believe, and nothing stays. `own`: the URI of this workload.
pub fn append_forward(headers: &mut HeaderMap, own: &str, peer: Option<&Identity>) {
    let Some(peer) = peer else {
        headers.remove(&X_FORWARDED_CLIENT_CERT);
        return;
    };
    let mut element = format!("By={};Hash={}", quoted(own), hex(&peer.hash));
    subject_and_uris(&mut element, peer);
    append(headers, element.as_bytes());
}

/// Behind what is there.
fn append(headers: &mut HeaderMap, element: &[u8]) {
    let mut list = Vec::with_capacity(element.len());
    for value in headers.get_all(&X_FORWARDED_CLIENT_CERT) {
        list.extend_from_slice(value.as_bytes());
        list.push(b',');
    }
    list.extend_from_slice(element);
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        Ok(value) => drop(headers.insert(&X_FORWARDED_CLIENT_CERT, value)),
        Err(_) => drop(headers.remove(&X_FORWARDED_CLIENT_CERT)),
    }
}

/// Both keys are there also if they are empty.
fn subject_and_uris(element: &mut String, peer: &Identity) {
    element.push_str(";Subject=\"");
    element.push_str(&peer.subject);
    element.push('"');
    if peer.uris.is_empty() {
        element.push_str(";URI=");
    }
    for uri in &peer.uris {
        element.push_str(&format!(";URI={}", quoted(uri)));
    }
}

/// What would be taken for the end of a value is put into quotes: names in a certificate are its owner's choice.
fn quoted(text: &str) -> Cow<'_, str> {
    if !text.contains([',', ';', '=', '"']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn url_encoded_pem(certificate: &[u8]) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, letter) in encoded.chars().enumerate() {
        if at > 0 && at.is_multiple_of(LINE) {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    let mut escaped = String::with_capacity(pem.len() + pem.len() / 8);
    for letter in pem.chars() {
        match letter {
            '\n' => escaped.push_str("%0A"),
            ' ' => escaped.push_str("%20"),
            '+' => escaped.push_str("%2B"),
            '/' => escaped.push_str("%2F"),
            '=' => escaped.push_str("%3D"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Ca, EDGE, REVIEWS, dns, uri};

    fn identity(sans: Vec<rcgen::SanType>, name: Option<&str>) -> Identity {
        let leaf = Ca::new("root").leaf(sans, &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            if let Some(name) = name {
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
            }
        });
        let pem = leaf.chain[0].as_bytes();
        let certificate =
            <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(pem);
        Identity::of(&certificate.unwrap()).unwrap()
    }

    #[test]
    fn the_edge_says_all_of_its_client() {
        let peer = identity(vec![uri("https://a.example/x"), dns("a.example"), dns("b.example")], Some("client"));
        let value = of_client(&peer).unwrap();
        let text = value.to_str().unwrap();
        let (head, rest) = text.split_once(";Cert=\"").unwrap();
        assert_eq!(head, format!("Hash={}", hex(&peer.hash)));
        let (pem, rest) = rest.split_once("\";").unwrap();
        assert!(pem.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"), "{pem}");
        assert!(pem.ends_with("%0A-----END%20CERTIFICATE-----%0A"), "{pem}");
        assert!(!pem.contains(['+', '/', '=', ' ', '\n']));
        assert_eq!(rest, r#"Subject="CN=client";URI=https://a.example/x;DNS=a.example;DNS=b.example"#);
    }

    #[test]
    fn the_edge_does_what_it_is_told_with_what_is_said() {
        use ForwardedCertificates::{Append, Forward, ForwardAlways, Remove, Set};
        let peer = identity(vec![dns("a.example")], None);
        let own = of_client(&peer).unwrap();
        let own = own.to_str().unwrap();
        for (forwarded, with, without) in [
            (Set, own.to_owned(), ""),
            (Remove, String::new(), ""),
            (Forward, "said,again".to_owned(), ""),
            (Append, format!("said,again,{own}"), ""),
            (ForwardAlways, "said,again".to_owned(), "said,again"),
        ] {
            for (peer, wanted) in [(Some(&peer), with.as_str()), (None, without)] {
                let mut headers = HeaderMap::new();
                headers.append(&X_FORWARDED_CLIENT_CERT, HeaderValue::from_static("said"));
                headers.append(&X_FORWARDED_CLIENT_CERT, HeaderValue::from_static("again"));
                CertificateHeader::of(forwarded, peer).apply(&mut headers, true);
                let lines: Vec<&str> =
                    headers.get_all(&X_FORWARDED_CLIENT_CERT).iter().map(|line| line.to_str().unwrap()).collect();
                assert_eq!(lines.join(","), wanted, "{forwarded:?}");
            }
        }
    }

    #[test]
    fn a_workload_appends_who_came_in() {
        let peer = identity(vec![uri(EDGE)], None);
        let wanted = format!("By={REVIEWS};Hash={};Subject=\"\";URI={EDGE}", hex(&peer.hash));
        let mut headers = HeaderMap::new();
        append_forward(&mut headers, REVIEWS, Some(&peer));
        assert_eq!(headers[&X_FORWARDED_CLIENT_CERT], wanted.as_str());
        append_forward(&mut headers, REVIEWS, Some(&peer));
        assert_eq!(headers[&X_FORWARDED_CLIENT_CERT], format!("{wanted},{wanted}").as_str());
        assert_eq!(headers.get_all(&X_FORWARDED_CLIENT_CERT).iter().count(), 1);
        append_forward(&mut headers, REVIEWS, None);
        assert!(headers.is_empty(), "nobody showed a certificate");
    }

    #[test]
    fn names_cannot_pretend_to_be_more() {
        let peer = identity(vec![uri("https://a/;By=spiffe://evil,Hash=\"1")], None);
        let text = of_client(&peer).unwrap();
        let text = text.to_str().unwrap();
        assert!(text.ends_with(r#";URI="https://a/;By=spiffe://evil,Hash=\"1""#), "{text}");
        assert!(of_client(&identity(vec![], None)).unwrap().to_str().unwrap().ends_with(";Subject=\"\";URI="));
    }
}
