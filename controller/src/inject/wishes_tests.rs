use super::*;

fn read(annotations: &[(&str, &str)]) -> Result<Wishes, Malformed> {
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Wishes::read(&Metadata { annotations, ..Metadata::default() }, &ProxyConfig::default())
}

fn flags(annotations: &[(&str, &str)]) -> String {
    read(annotations).unwrap().redirect.join(" ")
}

fn refused(name: &str, value: &str) -> String {
    read(&[(name, value)]).unwrap_err().to_string()
}

#[test]
fn traffic_annotations_are_flags_of_redirect() {
    assert_eq!(flags(&[]), "-i * -b * -d 15090,15021,15020");
    let all = [
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8,fd00::/8"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.1.0.0/16"),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "6379"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306,5432"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "80, 443"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "9090"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth1"),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
    ];
    let expected = "-i 10.0.0.0/8,fd00::/8 -b 80, 443 -d 15090,15021,15020,9090 -x 10.1.0.0/16 -q 6379 -o 3306,5432 -c eth1 -k net1";
    assert_eq!(flags(&all), expected);
    // Nothing at all is another thing than nothing said.
    let none = [
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", ""),
        ("traffic.sidecar.istio.io/includeInboundPorts", ""),
        ("traffic.sidecar.istio.io/excludeInboundPorts", ""),
    ];
    assert_eq!(flags(&none), "-i  -b  -d 15090,15021,15020");
    let both =
        [("istio.io/reroute-virtual-interfaces", "net2"), ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1")];
    assert!(flags(&both).ends_with("-k net2"));
}

#[test]
fn what_means_nothing_is_refused_by_name() {
    let lines = [
        refused("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8,bad"),
        refused("traffic.sidecar.istio.io/includeOutboundIPRanges", "*,10.0.0.0/8"),
        refused("traffic.sidecar.istio.io/excludeOutboundIPRanges", "*"),
        refused("traffic.sidecar.istio.io/includeInboundPorts", "80,http"),
        refused("traffic.sidecar.istio.io/excludeInboundPorts", "70000"),
        refused("traffic.sidecar.istio.io/excludeInterfaces", "eth0 -j ACCEPT"),
        refused("sidecar.istio.io/rewriteAppHTTPProbers", "yes"),
        refused("sidecar.istio.io/proxyCPU", "much"),
        refused("sidecar.istio.io/proxyMemoryLimit", "-1"),
        refused("sidecar.istio.io/interceptionMode", "MAYBE"),
        refused("sidecar.istio.io/logLevel", "loud"),
        refused("sidecar.istio.io/userVolume", "[{}]"),
        refused("status.sidecar.istio.io/port", "x"),
        refused("readiness.status.sidecar.istio.io/periodSeconds", "soon"),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    annotation `traffic.sidecar.istio.io/includeOutboundIPRanges`: `bad` is not a list of networks such as 10.0.0.0/8
    annotation `traffic.sidecar.istio.io/includeOutboundIPRanges`: `*` is not a list of networks such as 10.0.0.0/8
    annotation `traffic.sidecar.istio.io/excludeOutboundIPRanges`: `*` is not a list of networks such as 10.0.0.0/8
    annotation `traffic.sidecar.istio.io/includeInboundPorts`: `http` is not a list of ports
    annotation `traffic.sidecar.istio.io/excludeInboundPorts`: `70000` is not a list of ports
    annotation `traffic.sidecar.istio.io/excludeInterfaces`: `eth0 -j ACCEPT` is not a list of names of interfaces
    annotation `sidecar.istio.io/rewriteAppHTTPProbers`: `yes` is not `true` or `false`
    annotation `sidecar.istio.io/proxyCPU`: `much` is not an amount such as 500m, 1.5 or 128Mi
    annotation `sidecar.istio.io/proxyMemoryLimit`: `-1` is not an amount such as 500m, 1.5 or 128Mi
    annotation `sidecar.istio.io/interceptionMode`: `MAYBE` is not REDIRECT or NONE
    annotation `sidecar.istio.io/logLevel`: `loud` is not a level: trace, debug, info, warning, error, critical or off
    annotation `sidecar.istio.io/userVolume`: `[{}]` is not JSON of objects by their names
    annotation `status.sidecar.istio.io/port`: `x` is not a port
    annotation `readiness.status.sidecar.istio.io/periodSeconds`: `soon` is not a number of seconds or times
    "#);
    let config = refused("proxy.istio.io/config", "concurrency: many");
    assert!(
        config.starts_with("annotation `proxy.istio.io/config`: `concurrency: many` is not a ProxyConfig: "),
        "{config}"
    );
}

#[test]
fn what_is_not_there_is_a_warning() {
    let asked =
        read(&[("sidecar.istio.io/interceptionMode", "TPROXY"), ("status.sidecar.istio.io/port", "15999")]).unwrap();
    assert_eq!((asked.interception, asked.warnings.len()), (Interception::Redirect, 2));
    assert!(asked.rewrite_probes && asked.readiness);
    for (annotation, _) in UNHEARD {
        let warnings = read(&[(annotation, "x")]).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(annotation), "{warnings:?}");
    }
    let config = "{ concurrency: 1, tracing: { sampling: 10 }, drainDuration: 5s }";
    let warnings = read(&[("proxy.istio.io/config", config)]).unwrap().warnings;
    assert_eq!(warnings, ["annotation `proxy.istio.io/config`: drainDuration, tracing has no effect"]);
    let without = read(&[("status.sidecar.istio.io/port", "0")]).unwrap();
    assert!(!without.rewrite_probes && !without.readiness && without.warnings.is_empty());
}

#[test]
fn the_pod_s_proxy_config_is_laid_over_the_mesh_s() {
    let text = "{ holdApplicationUntilProxyStarts: true, proxyMetadata: { B: own }, tracing: { sampling: 10 } }";
    let annotations = [("proxy.istio.io/config".to_owned(), text.to_owned())].into();
    let defaults = ProxyConfig {
        concurrency: Some(3),
        proxy_metadata: [("A", "mesh"), ("B", "mesh")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..ProxyConfig::default()
    };
    let wishes = Wishes::read(&Metadata { annotations, ..Metadata::default() }, &defaults).unwrap();
    assert_eq!(wishes.proxy.concurrency, Some(3));
    assert_eq!(wishes.proxy.hold_application_until_proxy_starts, Some(true));
    let metadata: Vec<String> = wishes.proxy.proxy_metadata.values().cloned().collect();
    assert_eq!(metadata, ["mesh", "own"]);
    assert_eq!(
        wishes.proxy_text.unwrap(),
        r#"{"holdApplicationUntilProxyStarts":true,"proxyMetadata":{"B":"own"},"tracing":{"sampling":10}}"#
    );
}

#[test]
fn amounts_are_written_as_kubernetes_has_them() {
    for amount in ["1", "1.5", "500m", "250u", "1e3", "1E-2", "2E", "128Mi", "1Pi", "3k"] {
        assert!(is_quantity(amount), "{amount}");
    }
    for wrong in ["", "-1", "1.2.3", "1K", "1mi", "e3", "1e", "1e3m", "much"] {
        assert!(!is_quantity(wrong), "{wrong}");
    }
}

#[test]
fn volumes_are_a_list_or_a_map() {
    let map = read(&[("sidecar.istio.io/userVolume", r#"{"a":{"emptyDir":{}}}"#)]).unwrap().volumes;
    let list = read(&[("sidecar.istio.io/userVolume", r#"[{"name":"a","emptyDir":{}}]"#)]).unwrap().volumes;
    assert_eq!(map, list);
}
