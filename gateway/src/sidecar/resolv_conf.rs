//! resolv.conf(5) of the pod: who its resolvers are, and what they put behind names.

use std::io;
use std::net::IpAddr;

/// Where it is.
pub const PATH: &str = "/etc/resolv.conf";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<IpAddr>,
    /// In lower case, without a dot at the end.
    pub search: Vec<String>,
}

impl ResolvConf {
    pub fn read() -> io::Result<ResolvConf> {
        std::fs::read_to_string(PATH).map(|text| ResolvConf::parse(&text))
    }

    /// Of several lists to search the last counts; what cannot be read is passed over.
    fn parse(text: &str) -> ResolvConf {
        let mut all = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.split('%').next());
                    all.servers.extend(address.and_then(|address| address.parse::<IpAddr>().ok()));
                }
                Some("search" | "domain") => {
                    let domains = words.map(|domain| domain.trim_end_matches('.').to_ascii_lowercase());
                    all.search = domains.filter(|domain| !domain.is_empty()).collect();
                }
                _ => {}
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_and_search_domains_are_read() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 10.96.0.10\nnameserver\tfd00::a%eth0\nnameserver bad\n\
                    search Default.svc.cluster.local. svc.cluster.local\noptions ndots:5\n";
        let read = ResolvConf::parse(text);
        assert_eq!(read.servers, ["10.96.0.10".parse::<IpAddr>().unwrap(), "fd00::a".parse().unwrap()]);
        assert_eq!(read.search, ["default.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!(ResolvConf::parse("search .\n").search, [""; 0]);
    }
}
