//! Who a workload is. A leaf: it knows nothing else.

use std::fmt;
use std::str::FromStr;

/// Longest id, in bytes (SPIFFE-ID, section 2.3).
const LONGEST: usize = 2048;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`: the form of SPIFFE ids that Istio gives to workloads of
/// Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

/// Why something is no id of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("it is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Form,
    /// SPIFFE-ID, section 2.1: lower case letters, digits, `.`, `-` and `_`.
    #[error("the trust domain has a character other than a-z, 0-9, `.`, `-` and `_`, or none")]
    TrustDomain,
    /// SPIFFE-ID, section 2.2: letters, digits, `.`, `-` and `_`, and no dots alone.
    #[error("a part of the path has a character other than letters, digits, `.`, `-` and `_`, or none")]
    Path,
    #[error("it is longer than {LONGEST} bytes")]
    Long,
}

impl SpiffeId {
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<SpiffeId, InvalidId> {
        let domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if trust_domain.is_empty() || !trust_domain.bytes().all(domain) {
            return Err(InvalidId::TrustDomain);
        }
        if ![namespace, service_account].into_iter().all(is_segment) {
            return Err(InvalidId::Path);
        }
        let id = SpiffeId {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        };
        if id.to_string().len() > LONGEST { Err(InvalidId::Long) } else { Ok(id) }
    }

    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

fn is_segment(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(legal)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<SpiffeId, InvalidId> {
        let mut parts = text.strip_prefix("spiffe://").ok_or(InvalidId::Form)?.split('/');
        let mut next = || parts.next().ok_or(InvalidId::Form);
        let (domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(InvalidId::Form);
        }
        SpiffeId::new(domain, namespace, account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SpiffeId::new("cluster.local", "default", "bookinfo-reviews").unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/bookinfo-reviews");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for (text, error) in [
            ("spiffe://cluster.local/ns/default", InvalidId::Form),
            ("spiffe://cluster.local/ns/default/sa/a/b", InvalidId::Form),
            ("spiffe://cluster.local/sa/a/ns/default", InvalidId::Form),
            ("https://cluster.local/ns/default/sa/a", InvalidId::Form),
            ("spiffe:///ns/default/sa/a", InvalidId::TrustDomain),
            ("spiffe://Cluster.local/ns/default/sa/a", InvalidId::TrustDomain),
            ("spiffe://cluster.local:443/ns/default/sa/a", InvalidId::TrustDomain),
            ("spiffe://cluster.local/ns/default/sa/", InvalidId::Path),
            ("spiffe://cluster.local/ns/../sa/a", InvalidId::Path),
            ("spiffe://cluster.local/ns/default/sa/a?b", InvalidId::Path),
            ("spiffe://cluster.local/ns/default/sa/a%2e", InvalidId::Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(error), "{text}");
        }
        assert_eq!(SpiffeId::new("d", &"n".repeat(2100), "a"), Err(InvalidId::Long));
    }
}
