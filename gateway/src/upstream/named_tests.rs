use super::*;

fn hosts(suffix: &str, answer: &'static [&'static str]) -> NamedHosts {
    let resolver = Resolver::answering(2, move |_| answer.iter().map(|text| text.parse().unwrap()).collect());
    NamedHosts { resolver, host: format!("*{suffix}").into(), port: 443, wait: Duration::from_secs(5) }
}

async fn pick(hosts: &NamedHosts, authority: &str, avoid: &[&str]) -> Result<String, Unfound> {
    let avoid: Vec<SocketAddr> = avoid.iter().map(|text| text.parse().unwrap()).collect();
    hosts.pick(authority, &avoid).await.map(|endpoint| endpoint.address.to_string())
}

#[tokio::test]
async fn the_host_is_called_at_the_port_of_the_destination() {
    let hosts = hosts(".example", &["192.0.2.1"]);
    for authority in ["a.example", "a.example:8080", "A.Example.", "a.example.:1"] {
        assert_eq!(pick(&hosts, authority, &[]).await.unwrap(), "192.0.2.1:443", "{authority}");
    }
}

#[tokio::test]
async fn names_of_others_and_addresses_are_none() {
    let example = hosts(".example", &["192.0.2.1"]);
    for authority in ["a.other", "example", ".example", "[::1]:80", "a b.example", "aexample", ""] {
        assert_eq!(pick(&example, authority, &[]).await, Err(Unfound::OtherName), "{authority}");
    }
    assert_eq!(pick(&hosts(".0.0.1", &["192.0.2.1"]), "192.0.0.1", &[]).await, Err(Unfound::OtherName));
}

#[tokio::test]
async fn addresses_of_this_machine_and_its_link_are_none() {
    let inside: [&[&str]; 12] = [
        &["127.0.0.1"],
        &["169.254.169.254"],
        &["0.0.0.0"],
        &["::1"],
        &["fe80::1"],
        &["::ffff:127.0.0.1"],
        &["fd00:ec2::254"],
        &["fd20:ce::254"],
        &["100.100.100.200"],
        &["168.63.129.16"],
        &["64:ff9b::7f00:1"],
        &["64:ff9b::a9fe:a9fe"],
    ];
    for answer in inside {
        let found = pick(&hosts(".example", answer), "a.example", &[]).await;
        assert_eq!(found, Err(Unfound::AddressRefused), "{answer:?}");
    }
    assert!(pick(&hosts(".example", &["64:ff9b::c000:201"]), "a.example", &[]).await.is_ok());
    let some = hosts(".example", &["127.0.0.1", "10.0.0.1"]);
    assert_eq!(pick(&some, "a.example", &[]).await.unwrap(), "10.0.0.1:443");
    assert_eq!(pick(&hosts(".localhost", &["127.0.0.1"]), "a.localhost", &[]).await.unwrap(), "127.0.0.1:443");
    let found = pick(&hosts(".localhost", &["169.254.169.254"]), "a.localhost", &[]).await;
    assert_eq!(found, Err(Unfound::AddressRefused));
    assert_eq!(pick(&hosts(".example", &[]), "a.example", &[]).await, Err(Unfound::NotResolved));
}

#[test]
fn interfaces_of_this_machine_are_known() {
    for own in ["127.0.0.1", "127.9.9.9", "64:ff9b::7f00:1"] {
        assert!(is_of_this_machine(own.parse().unwrap()), "{own}");
    }
    for other in ["192.0.2.7", "198.51.100.1", "2001:db8::7", "64:ff9b::c000:207"] {
        assert!(!is_of_this_machine(other.parse().unwrap()), "{other}");
    }
    if let Ok(own) = called_from(IpAddr::V4(DOCUMENTATION4)) {
        assert!(is_of_this_machine(own), "{own}");
    }
    assert_eq!(called_from(Ipv4Addr::LOCALHOST.into()).unwrap(), Ipv4Addr::LOCALHOST);
}

#[test]
fn names_are_asked_for_as_they_are() {
    assert_eq!(absolute("kubernetes.default"), "kubernetes.default.");
}

#[tokio::test]
async fn another_try_goes_to_another_address() {
    let hosts = hosts(".example", &["192.0.2.1", "192.0.2.2"]);
    for _ in 0..20 {
        assert_eq!(pick(&hosts, "a.example", &["192.0.2.1:443"]).await.unwrap(), "192.0.2.2:443");
    }
    assert!(pick(&hosts, "a.example", &["192.0.2.1:443", "192.0.2.2:443"]).await.is_ok());
}

#[tokio::test]
async fn names_are_bounded_and_those_that_lead_nowhere_go_first() {
    let resolver = Resolver::answering(2, |name| match name {
        "bad.example" => Vec::new(),
        _ => vec!["192.0.2.1".parse().unwrap()],
    });
    let hosts = NamedHosts { resolver, host: "*.example".into(), port: 80, wait: Duration::from_secs(5) };
    assert_eq!(pick(&hosts, "bad.example", &[]).await, Err(Unfound::NotResolved));
    assert!(pick(&hosts, "a.example", &[]).await.is_ok());
    assert!(pick(&hosts, "b.example", &[]).await.is_ok());
    assert_eq!(hosts.resolver.kept(), ["a.example", "b.example"]);
    assert!(pick(&hosts, "a.example", &[]).await.is_ok());
    assert!(pick(&hosts, "c.example", &[]).await.is_ok());
    // That of which it was the longest that somebody asked for it.
    assert_eq!(hosts.resolver.kept(), ["a.example", "c.example"]);
    // Who asks another destination for many names takes this one none away.
    let others = NamedHosts { resolver: hosts.resolver.clone(), host: "*.other".into(), port: 80, wait: hosts.wait };
    for name in ["1.other", "2.other", "3.other", "4.other"] {
        assert!(pick(&others, name, &[]).await.is_ok());
    }
    assert_eq!(hosts.resolver.kept(), ["3.other", "4.other", "a.example", "c.example"]);
}
