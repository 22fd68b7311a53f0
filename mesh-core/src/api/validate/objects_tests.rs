//! Gateways, destination rules, service and workload entries: what is refused, and what stays.

use crate::api::{Spec, parse};
use crate::diag::Severity;

/// Codes and fields of errors and doubts.
fn findings(kind: &str, spec: &str) -> (Vec<String>, Option<Spec>) {
    let text = format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n");
    let parsed = parse("f", &text, "default");
    let found = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error || d.code == "MESH0009");
    let found = found.map(|d| format!("{} {}", d.code, d.field)).collect();
    (found, parsed.objects.into_iter().next().map(|object| object.spec))
}

fn check(kind: &str, rows: &[(&str, &[&str])]) {
    for (spec, expected) in rows {
        assert_eq!(findings(kind, spec).0, *expected, "{spec}");
    }
}

#[test]
fn gateways() {
    check(
        "Gateway",
        &[
            ("{}", &["MESH0006 spec.servers"]),
            ("{servers: []}", &["MESH0006 spec.servers"]),
            (
                "{servers: [{hosts: [], port: {number: 80, name: a, protocol: HTTP}}]}",
                &["MESH0006 spec.servers[0].hosts"],
            ),
            (
                "{servers: [{hosts: [a, '*b.c', x/, '?/a.b', './*', '1.2.3.4'], port: {number: 80, name: a, protocol: HTTP}}]}",
                &[
                    "MESH0003 spec.servers[0].hosts[0]",
                    "MESH0003 spec.servers[0].hosts[1]",
                    "MESH0003 spec.servers[0].hosts[2]",
                    "MESH0003 spec.servers[0].hosts[3]",
                ],
            ),
            (
                "{servers: [{hosts: ['*'], port: {protocol: HTTP, targetPort: 1}, bind: x}]}",
                &[
                    "MESH0006 spec.servers[0].port.name",
                    "MESH0003 spec.servers[0].port.targetPort",
                    "MESH0003 spec.servers[0].port.number",
                    "MESH0003 spec.servers[0].bind",
                ],
            ),
            ("{servers: [{hosts: ['*'], port: {number: 0, name: a, protocol: HTTP}, bind: 'unix:///run/a'}]}", &[]),
            (
                "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}}]}",
                &["MESH0006 spec.servers[0].tls"],
            ),
            (
                "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {credentialName: c}}]}",
                &["MESH0009 spec.servers[0].tls.mode"],
            ),
            (
                "{servers: [{hosts: ['*'], port: {number: 80, name: a, protocol: HTTP}, tls: {mode: SIMPLE, credentialName: c}}]}",
                &["MESH0003 spec.servers[0].tls"],
            ),
            (
                "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: MUTUAL}}]}",
                &[
                    "MESH0006 spec.servers[0].tls.caCertificates",
                    "MESH0006 spec.servers[0].tls.serverCertificate",
                    "MESH0006 spec.servers[0].tls.privateKey",
                ],
            ),
            (
                "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: a, \
          credentialNames: [b], minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2, httpsRedirect: true}}]}",
                &[
                    "MESH0003 spec.servers[0].tls.minProtocolVersion",
                    "MESH0003 spec.servers[0].tls",
                    "MESH0009 spec.servers[0].tls.httpsRedirect",
                ],
            ),
            (
                "{servers: [{hosts: ['*'], port: {number: 443, name: a, protocol: TLS}, tls: {mode: ISTIO_MUTUAL, privateKey: c}}]}",
                &["MESH0003 spec.servers[0].tls.privateKey"],
            ),
        ],
    );
}

#[test]
fn a_server_with_the_port_name_of_another_is_dropped() {
    let (found, spec) = findings(
        "Gateway",
        "{servers: [{hosts: ['*'], port: {number: 80, name: a, protocol: HTTP}}, {hosts: ['*'], port: {number: 81, name: a, \
         protocol: HTTP}}, {hosts: ['*'], port: {number: 82, name: b, protocol: HTTP}}]}",
    );
    assert_eq!(found, ["MESH0003 spec.servers[1].port.name"]);
    let Some(Spec::Gateway(gateway)) = spec else { panic!() };
    assert_eq!(gateway.servers.iter().map(|server| server.index).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn destination_rules() {
    check(
        "DestinationRule",
        &[
            ("{}", &["MESH0006 spec.host"]),
            ("{host: 'a b', exportTo: ['~']}", &["MESH0003 spec.host", "MESH0003 spec.exportTo[0]"]),
            ("{host: a, trafficPolicy: {}}", &["MESH0006 spec.trafficPolicy"]),
            (
                "{host: a, subsets: [{name: v1}, {name: v1}, {name: 'a.b', labels: {a: 'x y'}}]}",
                &["MESH0003 spec.subsets[1].name", "MESH0003 spec.subsets[2].name", "MESH0003 spec.subsets[2].labels"],
            ),
            (
                "{host: a, trafficPolicy: {connectionPool: {}, outlierDetection: {maxEjectionPercent: 101, consecutiveErrors: 1}}}",
                &[
                    "MESH0003 spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                    "MESH0009 spec.trafficPolicy.outlierDetection.consecutiveErrors",
                    "MESH0006 spec.trafficPolicy.connectionPool",
                ],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {maglev: {}, httpHeaderName: a, useSourceIp: true}}}}",
                &[
                    "MESH0003 spec.trafficPolicy.loadBalancer.consistentHash",
                    "MESH0003 spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
                ],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: 'a=b', path: '/;x', \
          attributes: [{name: A, value: \"b\\n\"}]}}}}}",
                &[
                    "MESH0003 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name",
                    "MESH0003 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.path",
                    "MESH0003 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[0].value",
                ],
            ),
            (
                "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {a/b: 60, a/c: 30}}], \
          failover: [{from: a, to: a}]}}}}",
                &[
                    "MESH0003 spec.trafficPolicy.loadBalancer.localityLbSetting.failover",
                    "MESH0003 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
                    "MESH0009 spec.trafficPolicy.loadBalancer.localityLbSetting",
                    "MESH0003 spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0]",
                ],
            ),
            (
                "{host: a, trafficPolicy: {tls: {mode: MUTUAL}, portLevelSettings: [{port: {number: 1}}, {tls: {}}]}}",
                &["MESH0006 spec.trafficPolicy.tls.clientCertificate", "MESH0006 spec.trafficPolicy.tls.privateKey"],
            ),
            (
                "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 1}}, {tls: {}}, {port: {number: 80}, tls: {}}]}}",
                &[
                    "MESH0006 spec.trafficPolicy.portLevelSettings[0]",
                    "MESH0006 spec.trafficPolicy.portLevelSettings[1].port",
                ],
            ),
            (
                "{host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s, connectTimeout: 0s}}}}",
                &["MESH0003 spec.trafficPolicy.connectionPool.tcp.connectTimeout"],
            ),
        ],
    );
}

#[test]
fn service_entries() {
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]";
    check(
        "ServiceEntry",
        &[
            ("{}", &["MESH0006 spec.hosts"]),
            (&format!("{{hosts: ['*', '*a.b'], {ports}}}"), &["MESH0003 spec.hosts[0]", "MESH0009 spec.hosts[1]"]),
            (
                &format!("{{hosts: [a.b], {ports}, resolution: DNS, addresses: [10.0.0.0/8, x]}}"),
                &["MESH0003 spec.addresses[0]", "MESH0003 spec.addresses[1]"],
            ),
            (&format!("{{hosts: [a.b], {ports}, endpoints: [{{address: 1.1.1.1}}]}}"), &["MESH0003 spec.endpoints"]),
            (&format!("{{hosts: ['*.b'], {ports}, resolution: DNS}}"), &["MESH0003 spec.hosts[0]"]),
            (&format!("{{hosts: ['*.b'], {ports}, resolution: DNS, endpoints: [{{address: c.d}}]}}"), &[]),
            (
                &format!(
                    "{{hosts: [a.b], {ports}, resolution: DNS_ROUND_ROBIN, endpoints: [{{address: a}}, {{address: b}}]}}"
                ),
                &["MESH0003 spec.endpoints"],
            ),
            (
                "{hosts: [a.b, c.d], resolution: DNS, ports: [{number: 1, name: a, protocol: TCP}, {number: 1, name: a}]}",
                &[
                    "MESH0003 spec.ports[0].protocol",
                    "MESH0003 spec.ports[1].name",
                    "MESH0003 spec.ports[1].number",
                    "MESH0003 spec.ports[1].protocol",
                ],
            ),
            (
                &format!(
                    "{{hosts: [a.b], {ports}, workloadSelector: {{labels: {{a: '*'}}}}, endpoints: [], resolution: STATIC}}"
                ),
                &["MESH0003 spec.workloadSelector.labels", "MESH0003 spec.endpoints"],
            ),
        ],
    );
    let (found, spec) = findings(
        "ServiceEntry",
        &format!(
            "{{hosts: [a.b], {ports}, resolution: STATIC, endpoints: [{{address: a.b}}, {{}}, {{address: 'unix:///a', ports: {{http: \
             1}}}}, {{address: 1.1.1.1, ports: {{grpc: 0}}}}, {{address: 2.2.2.2}}]}}"
        ),
    );
    assert_eq!(
        found,
        [
            "MESH0003 spec.endpoints[0].address",
            "MESH0006 spec.endpoints[1].address",
            "MESH0003 spec.endpoints[2].ports",
            "MESH0003 spec.endpoints[3].ports.grpc",
            "MESH0003 spec.endpoints[3].ports.grpc",
        ]
    );
    let Some(Spec::ServiceEntry(entry)) = spec else { panic!() };
    assert_eq!(entry.endpoints.iter().map(|endpoint| endpoint.index).collect::<Vec<_>>(), [4]);
}

#[test]
fn workload_entries() {
    check(
        "WorkloadEntry",
        &[
            ("{}", &["MESH0006 spec.address"]),
            ("{network: n}", &["MESH0009 spec"]),
            ("{address: 'unix://a'}", &["MESH0003 spec.address"]),
            ("{address: 'a b'}", &["MESH0003 spec.address"]),
            (
                "{address: a.b, ports: {'x y': 70000}, labels: {a: '-'}}",
                &["MESH0003 spec.ports.x y", "MESH0003 spec.ports.x y", "MESH0003 spec.labels"],
            ),
            ("{address: '::1', ports: {http: 80}, labels: {a: b}, weight: 3, serviceAccount: s, locality: a/b}", &[]),
        ],
    );
}
