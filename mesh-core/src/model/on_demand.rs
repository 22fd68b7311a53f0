//! What a sidecar is told of when it asks: the hosts that its workload calls, and no others, so that what it holds follows what is
//! used and not how large the cluster is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Key, ListenerProtocol, ResourceSet, is_default};

/// Longest name that is asked for, in bytes (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;

/// A listener with this knows some hosts only. Who calls another one has to ask first, with a name of [`asked_name`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDemand {
    /// Where services have addresses. Others need not be asked for: nobody is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub networks: Vec<IpNet>,
    /// Names and addresses that somebody of this class asked for: all that they mean is here, if only that it is nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub answered: BTreeSet<Key>,
}

impl OnDemand {
    /// Whether services may have this address.
    pub fn is_near(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

impl ResourceSet {
    /// None: everything is here, asked for or not.
    pub fn on_demand(&self) -> Option<&OnDemand> {
        self.listeners.values().find_map(|listener| match &listener.protocol {
            ListenerProtocol::Outbound(outbound) => outbound.on_demand.as_ref(),
            _ => None,
        })
    }
}

/// What is asked for by who calls `host`, a name or an address without port: lower case, without the dot at the end and the brackets
/// of an address. None: nothing is called so.
pub fn asked_name(host: &str) -> Option<Key> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(asked_address(address));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = !name.is_empty() && name.len() <= LONGEST && name.bytes().all(is_of_names);
    (is_name && name.split('.').all(|label| !label.is_empty())).then(|| name.to_ascii_lowercase().into())
}

/// What is asked for by who calls an address.
pub fn asked_address(address: IpAddr) -> Key {
    address.to_canonical().to_string().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_name_for_all_ways_to_write_it() {
        let asked = |host: &str| asked_name(host).map(|name| name.to_string());
        assert_eq!(asked("Reviews.default."), Some("reviews.default".to_owned()));
        assert_eq!(asked("[FD00::01]"), Some("fd00::1".to_owned()));
        assert_eq!(asked("::ffff:10.0.0.1"), Some("10.0.0.1".to_owned()));
        for nothing in ["", ".", "a..b", ".a", "a b", "a/b", "*.a", "ä", &"a".repeat(254)] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn addresses_of_services_are_near() {
        let on_demand = OnDemand { networks: vec!["10.96.0.0/16".parse().unwrap()], ..OnDemand::default() };
        let near = |address: &str| on_demand.is_near(address.parse().unwrap());
        assert!(near("10.96.3.4"));
        assert!(near("::ffff:10.96.3.4"));
        assert!(!near("10.97.3.4"));
    }
}
