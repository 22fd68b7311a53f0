//! Which IP families somebody has, and which of them comes first.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// By the addresses of a pod, of which Kubernetes puts the cluster's primary family first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IpFamilies {
    /// No addresses are known (files): what there is is taken, IPv4 first.
    #[default]
    Unknown,
    V4,
    V6,
    V4First,
    V6First,
}

impl IpFamilies {
    pub fn of(addresses: &[IpAddr]) -> IpFamilies {
        let has = |v6: bool| addresses.iter().any(|address| address.is_ipv6() == v6);
        match (addresses.first(), has(false), has(true)) {
            (None, ..) => IpFamilies::Unknown,
            (Some(_), true, false) => IpFamilies::V4,
            (Some(IpAddr::V4(_)), ..) => IpFamilies::V4First,
            (Some(IpAddr::V6(_)), false, _) => IpFamilies::V6,
            (Some(IpAddr::V6(_)), true, _) => IpFamilies::V6First,
        }
    }

    /// Whether there is an IPv6 address for sure.
    pub fn has_v6(self) -> bool {
        !matches!(self, IpFamilies::Unknown | IpFamilies::V4)
    }

    /// The lower, the sooner an address of the family is taken. None: it cannot be reached.
    pub fn rank(self, is_v6: bool) -> Option<u8> {
        match (self, is_v6) {
            (IpFamilies::V4, true) | (IpFamilies::V6, false) => None,
            (IpFamilies::V6 | IpFamilies::V6First, true) => Some(0),
            (IpFamilies::V6First, false) => Some(1),
            (_, v6) => Some(u8::from(v6)),
        }
    }

    /// Of several addresses of one workload the one that is taken. Istio without its dual-stack feature takes one, too.
    pub fn choose(self, addresses: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        let ranked = addresses.filter_map(|address| Some((self.rank(address.is_ipv6())?, address)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, address)| address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(addresses: &[&str]) -> IpFamilies {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        IpFamilies::of(&addresses)
    }

    #[test]
    fn the_first_address_says_which_comes_first() {
        assert_eq!(families(&[]), IpFamilies::Unknown);
        assert_eq!(families(&["10.0.0.1"]), IpFamilies::V4);
        assert_eq!(families(&["fd00::1", "fd00::2"]), IpFamilies::V6);
        assert_eq!(families(&["10.0.0.1", "fd00::1"]), IpFamilies::V4First);
        assert_eq!(families(&["fd00::1", "10.0.0.1"]), IpFamilies::V6First);
    }

    #[test]
    fn one_address_that_can_be_reached_is_chosen() {
        let both = ["10.0.0.1", "fd00::1"].map(|address| address.parse::<IpAddr>().unwrap());
        let chosen = |families: IpFamilies, addresses: &[IpAddr]| {
            families.choose(addresses.iter().copied()).map(|address| address.to_string())
        };
        for families in [IpFamilies::Unknown, IpFamilies::V4, IpFamilies::V4First] {
            assert_eq!(chosen(families, &both).as_deref(), Some("10.0.0.1"), "{families:?}");
        }
        for families in [IpFamilies::V6, IpFamilies::V6First] {
            assert_eq!(chosen(families, &both).as_deref(), Some("fd00::1"), "{families:?}");
        }
        assert_eq!(chosen(IpFamilies::V6, &both[..1]), None);
        assert_eq!(chosen(IpFamilies::V4, &both[1..]), None);
        assert_eq!(chosen(IpFamilies::Unknown, &both[1..]).as_deref(), Some("fd00::1"));
    }
}
