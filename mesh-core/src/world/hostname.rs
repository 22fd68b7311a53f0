//! Host names as users write them: how short names grow, and when one name covers another. It decides nothing about
//! which objects exist.

use std::net::IpAddr;

use crate::model::HostPattern;

/// Domain of the cluster's services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Whole as it is: nobody asks DNS for it (RFC 6761 section 6.3).
pub const LOCALHOST: &str = "localhost";

/// `reviews` in namespace `shop` is `reviews.shop.svc.cluster.local`; names with a dot, `*` and addresses stay. Lower case.
pub fn expand(host: &str, namespace: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.is_empty() || host == "*" || host == LOCALHOST || host.contains('.') || host.parse::<IpAddr>().is_ok() {
        return host;
    }
    service(&host, namespace)
}

/// Full name of a Kubernetes Service.
pub fn service(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

/// Any case; `*`, `*.suffix` or an exact name.
pub fn pattern(host: &str) -> HostPattern {
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    }
}

/// Whether every name that `inner` stands for is one that `outer` stands for. `*.a.com` covers `x.a.com`, `*.x.a.com` and
/// itself, not `a.com`.
pub fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Any, _) => true,
        (_, HostPattern::Any) => false,
        (HostPattern::Suffix(outer), HostPattern::Suffix(inner)) => inner.ends_with(&**outer),
        (HostPattern::Suffix(outer), HostPattern::Exact(inner)) => {
            inner.len() > outer.len() && inner.ends_with(&**outer)
        }
        (HostPattern::Exact(_), HostPattern::Suffix(_)) => false,
        (HostPattern::Exact(outer), HostPattern::Exact(inner)) => outer == inner,
    }
}

/// The narrower of two patterns, if one covers the other: what a server for `a` serves of a rule for `b`.
pub fn intersection<'a>(a: &'a HostPattern, b: &'a HostPattern) -> Option<&'a HostPattern> {
    if covers(b, a) {
        Some(a)
    } else if covers(a, b) {
        Some(b)
    } else {
        None
    }
}

/// The candidate most like `wanted`, if it is close enough to be a slip of the pen.
pub fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wanted.len() / 4).clamp(1, 4);
    candidates
        .filter(|candidate| candidate.len().abs_diff(wanted.len()) <= allowed)
        .map(|candidate| (strsim::osa_distance(wanted, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_grow_and_others_stay() {
        assert_eq!(expand("reviews", "shop"), "reviews.shop.svc.cluster.local");
        assert_eq!(expand("Reviews.Shop", "x"), "reviews.shop");
        assert_eq!(expand("*", "x"), "*");
        assert_eq!(expand("*.a.com", "x"), "*.a.com");
        assert_eq!(expand("::1", "x"), "::1");
    }

    #[test]
    fn covering() {
        let covers = |a: &str, b: &str| super::covers(&pattern(a), &pattern(b));
        assert!(covers("*", "*.a.com"));
        assert!(covers("*.a.com", "x.y.a.com"));
        assert!(covers("*.a.com", "*.x.a.com"));
        assert!(covers("A.com", "a.COM"));
        assert!(!covers("*.a.com", "a.com"));
        assert!(!covers("*.a.com", ".a.com"));
        assert!(!covers("*.a.com", "*.com"));
        assert!(!covers("a.com", "*.a.com"));
        assert!(!covers("*.a.com", "*"));
    }

    #[test]
    fn the_narrower_side_is_served() {
        let meet = |a: &str, b: &str| intersection(&pattern(a), &pattern(b)).map(ToString::to_string);
        assert_eq!(meet("*.com", "a.com").as_deref(), Some("a.com"));
        assert_eq!(meet("a.com", "*").as_deref(), Some("a.com"));
        assert_eq!(meet("*.a.com", "*.com").as_deref(), Some("*.a.com"));
        assert_eq!(meet("a.com", "b.com"), None);
    }

    #[test]
    fn nearest_name() {
        assert_eq!(nearest("reveiws", ["ratings", "reviews"].into_iter()), Some("reviews"));
        assert_eq!(nearest("zebra", ["ratings", "reviews"].into_iter()), None);
    }
}
