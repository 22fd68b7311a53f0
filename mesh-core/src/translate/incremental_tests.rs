//! A world that was changed step by step means the same as one of the same objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Translator, translate};
use crate::api::{ApiObject, parse};
use crate::model::{
    HostPattern, Key, ListenerProtocol, Outbound, OutboundTcp, ProxyInfo, ResourceSet, Resources, Role, RouteSet,
    VirtualHost, WeightedDestination,
};
use crate::world::World;

fn proxy() -> ProxyInfo {
    ProxyInfo::edge("gateway", "default", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

/// In one of the pods of the objects below.
fn sidecar() -> ProxyInfo {
    let labels = [("app".to_owned(), "s0".to_owned()), ("version".to_owned(), "v0".to_owned())];
    ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("sidecar", "default", labels.into()) }
}

const KINDS: u8 = 24;

/// One of a few objects, in one of four versions.
fn object(number: u8, version: u8) -> ApiObject {
    let name = number / KINDS % 2;
    let networking = |kind: &str, kind_name: &str, spec: &str| {
        format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {kind_name}{name}}}\nspec: {spec}")
    };
    let pick = |choices: [&str; 4]| choices[usize::from(version)].to_owned();
    let text = match number % KINDS {
        0 => networking(
            "Gateway",
            "g",
            &format!(
                "{{selector: {{istio: {}}}, servers: [{{port: {{number: 8{}, name: http, protocol: HTTP}}, hosts: [{}], tls: {{httpsRedirect: {}}}}}]}}",
                pick(["ingressgateway", "ingressgateway", "ingressgateway", "egressgateway"]),
                version % 2,
                pick(["'*'", "h1.example.com, h2.example.com", "default/*.example.com", "'*'"]),
                version == 1
            ),
        ),
        1 => networking(
            "VirtualService",
            "v",
            &format!(
                "{{hosts: [{}], gateways: [g0, g1{}], exportTo: [{}], http: [{{match: [{{uri: {{prefix: /a{version}}}}}], route: [{{destination: {{host: s{name}, subset: a}}}}]}}, {{route: [{{destination: {{host: s{name}}}}}]}}]}}",
                pick(["h1.example.com", "'*.example.com'", "h2.example.com, h1.example.com", "'*'"]),
                pick([", mesh", ", mesh", ", mesh", ""]),
                pick(["'*'", "'*'", ".", "default"]),
            ),
        ),
        2 => networking(
            "DestinationRule",
            "d",
            &format!(
                "{{host: {}, subsets: [{{name: a, labels: {{version: v{version}}}}}], trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {version}}}}}}}}}",
                pick(["s0", "s1", "s0", "'*.default.svc.cluster.local'"])
            ),
        ),
        3 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}}}\nspec: {{selector: {{app: s{name}}}, ports: [{{name: http, port: 80, targetPort: {}}}]}}",
            pick(["8080", "8081", "web", "8080"])
        ),
        4 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{name}, labels: {{kubernetes.io/service-name: s{}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.0.0.{version}], conditions: {{ready: true}}, nodeName: n{}, zone: z, targetRef: {{kind: Pod, name: p{name}}}}}]",
            version % 2,
            version / 2
        ),
        5 => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{name}, labels: {{app: s{name}, istio: ingressgateway, version: v{version}}}}}\nspec: {{nodeName: n{name}, containers: [{{ports: [{{name: web, containerPort: 80{version}}}]}}]}}\nstatus: {{podIP: 10.0.2.{version}, conditions: [{{type: Ready, status: 'True'}}]}}"
        ),
        6 => networking(
            "ServiceEntry",
            "x",
            &pick([
                "{hosts: [s0.default.svc.cluster.local], resolution: STATIC, ports: [{number: 81, name: http, protocol: HTTP}], endpoints: [{address: 10.0.1.1}]}",
                "{hosts: [s1.default.svc.cluster.local, x.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}",
                "{hosts: [s0], resolution: STATIC, workloadSelector: {labels: {app: s0}}, ports: [{number: 80, name: http, protocol: HTTP}]}",
                "{hosts: [x.example.com], exportTo: ['~'], resolution: STATIC, ports: [{number: 80, name: http2, protocol: HTTP2}]}",
            ]),
        ),
        7 => networking(
            "WorkloadEntry",
            "w",
            &format!("{{address: 10.0.3.{version}, labels: {{app: s{name}, version: v{}}}}}", version % 2),
        ),
        8 => networking(
            "VirtualService",
            "root",
            &format!(
                "{{hosts: [h{version}.example.com], gateways: [{}], http: [{{match: [{{uri: {{prefix: /r}}}}], delegate: {{name: part{name}}}}}{}]}}",
                pick(["g0", "g1", "nowhere", "mesh, g0"]),
                if version == 1 { "" } else { ", {route: [{destination: {host: x.example.com}}]}" }
            ),
        ),
        9 => networking(
            "VirtualService",
            "part",
            &format!(
                "{{http: [{{match: [{{uri: {{prefix: /r/{version}}}}}], route: [{{destination: {{host: {}}}}}]}}]}}",
                pick(["s0", "s1", "s2", "s0.default"])
            ),
        ),
        10 => networking(
            "Gateway",
            "t",
            &format!(
                "{{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [h{version}.example.com], tls: {{mode: SIMPLE, credentialName: c{name}}}}}{}]}}",
                pick([
                    "",
                    ", {port: {number: 15443, name: between, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}",
                    ", {port: {number: 15443, name: between, protocol: TLS}, hosts: [s0.default.svc.cluster.local], tls: {mode: AUTO_PASSTHROUGH}}",
                    ", {port: {number: 15443, name: pass, protocol: TLS}, hosts: ['*.local'], tls: {mode: PASSTHROUGH}}",
                ])
            ),
        ),
        11 => format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: c{name}}}\nstringData: {{tls.crt: a{version}, {}: b}}",
            pick(["tls.key", "tls.key", "other", "tls.key"])
        ),
        12 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: front{name}}}\nspec: {{selector: {{istio: ingressgateway}}, ports: [{{name: http, port: 80, targetPort: {}}}, {{name: https, port: 443, targetPort: 8443}}]}}",
            pick(["8080", "web", "8081", "8080"])
        ),
        13 => format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n{name}, labels: {{topology.kubernetes.io/region: r{version}, other: o{version}}}}}"
        ),
        14 => format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}, labels: {{mesh: {}}}}}",
            ["default", "elsewhere"][usize::from(name)],
            pick(["in", "out", "in", "in"])
        ),
        15 => networking(
            "VirtualService",
            "mesh",
            &pick([
                "{hosts: [s0], http: [{match: [{sourceLabels: {version: v0}}], route: [{destination: {host: s1}}]}, {route: [{destination: {host: s0, subset: a}}]}]}",
                "{hosts: ['*.default.svc.cluster.local', made.up], http: [{match: [{port: 80}], route: [{destination: {host: s1}}]}]}",
                "{hosts: [tcp0, tcp1], tcp: [{match: [{destinationSubnets: [10.1.0.0/16]}], route: [{destination: {host: tcp1}}]}, {route: [{destination: {host: tcp0}, weight: 1}, {destination: {host: s2}, weight: 3}]}], tls: [{match: [{sniHosts: [x.example.com]}], route: [{destination: {host: tcp1}}]}]}",
                "{hosts: [s1.default.svc.cluster.local], gateways: [mesh], http: [{delegate: {name: part0}}]}",
            ]),
        ),
        16 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: tcp{name}, annotations: {{networking.istio.io/exportTo: '{}'}}}}\nspec: {}",
            pick(["*", "elsewhere", "*", "."]),
            pick([
                "{clusterIP: 10.1.0.1, selector: {app: s0}, ports: [{name: tcp, port: 9000}, {name: web, port: 80}]}",
                "{clusterIP: 10.1.0.1, ports: [{name: tls, port: 9000}]}",
                "{clusterIP: None, selector: {app: s0}, ports: [{name: tcp, port: 9000}, {name: other, port: 81}]}",
                "{selector: {app: s0, version: v0}, ports: [{name: http, port: 9000, targetPort: web}, {name: tcp, port: 80}]}",
            ])
        ),
        17 => format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: peer{name}}}\nspec: {}",
            pick([
                "{mtls: {mode: STRICT}}",
                "{selector: {matchLabels: {app: s0}}, mtls: {mode: DISABLE}, portLevelMtls: {8080: {mode: STRICT}}}",
                "{mtls: {mode: DISABLE}}",
                "{selector: {matchLabels: {app: s1}}, mtls: {mode: DISABLE}}",
            ])
        ),
        18 => networking(
            "ServiceEntry",
            "wide",
            &pick([
                "{hosts: ['*.example.com'], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]}",
                "{hosts: [y.example.com], resolution: NONE, addresses: [10.2.0.0/16], ports: [{number: 9000, name: tcp, protocol: TCP}]}",
                "{hosts: [y.example.com], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {labels: {app: s0}}, ports: [{number: 82, name: http, protocol: HTTP, targetPort: 8082}]}",
                "{hosts: [h1.example.com], resolution: DNS, ports: [{number: 8443, name: https, protocol: HTTPS}]}",
            ]),
        ),
        19 => networking(
            "Sidecar",
            "sc",
            &pick([
                "{egress: [{hosts: ['./s0.default.svc.cluster.local', '*/*.example.com']}]}",
                "{workloadSelector: {labels: {app: s0}}, egress: [{port: {number: 80, protocol: HTTP}, captureMode: NONE, hosts: ['*/*']}, {port: {number: 9000, protocol: TCP}, bind: 10.9.9.9, hosts: ['*/*']}, {hosts: ['./*', '~./s1.default.svc.cluster.local']}]}",
                "{egress: [{captureMode: NONE, hosts: ['./*']}], outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: s1.default.svc.cluster.local, port: {number: 80}}}}",
                "{ingress: [{port: {number: 8080, protocol: HTTP}, defaultEndpoint: '127.0.0.1:80'}, {port: {number: 8081}, captureMode: NONE, defaultEndpoint: '0.0.0.0:81'}], inboundConnectionPool: {tcp: {connectTimeout: 2s}}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
            ]),
        ),
        20 => networking(
            "Gateway",
            "l4",
            &pick([
                "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}]}",
                "{selector: {istio: ingressgateway}, servers: [{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}]}",
                "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [h1.example.com], tls: {mode: MUTUAL, credentialName: c0}}]}",
                "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: tls, protocol: HTTPS}, hosts: [default/h1.example.com], tls: {mode: PASSTHROUGH}}, {port: {number: 9000, name: tcp, protocol: TCP}, hosts: [h2.example.com]}]}",
            ]),
        ),
        21 => networking(
            "VirtualService",
            "l4",
            &pick([
                "{hosts: ['*.example.com'], gateways: [l40, l41], tls: [{match: [{sniHosts: [h1.example.com, '*.a.example.com']}], route: [{destination: {host: s0, subset: a}}]}, {match: [{sniHosts: ['*.example.com']}], route: [{destination: {host: tcp0}}]}]}",
                "{hosts: ['*'], gateways: [l40], tcp: [{match: [{port: 9000}], route: [{destination: {host: s0}, weight: 1}, {destination: {host: tcp1}, weight: 2}]}, {route: [{destination: {host: s1}}]}]}",
                "{hosts: [h1.example.com], gateways: [l40, l41, g0], exportTo: [.], tcp: [{route: [{destination: {host: x.example.com}}]}], http: [{route: [{destination: {host: s0}}]}]}",
                "{hosts: [h1.example.com, h2.example.com], gateways: [l41, mesh], tcp: [{match: [{gateways: [l40]}], route: [{destination: {host: s0}}]}], tls: [{match: [{sniHosts: [h1.example.com], port: 443}], route: [{destination: {host: s1}}]}]}",
            ]),
        ),
        22 => format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: c{name}-cacert}}\nstringData: {{{}: a{version}}}",
            pick(["cacert", "ca.crt", "other", "cacert"])
        ),
        _ => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{}'}}",
            pick([
                "connectTimeout: 1s",
                "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
                "defaultVirtualServiceExportTo: [\".\"]",
                "discoverySelectors: [{matchLabels: {mesh: in}}]"
            ])
        ),
    };
    let mut parsed = parse("", &text, "default");
    assert_eq!(parsed.objects.len(), 1, "{text}\n{:?}", parsed.diagnostics);
    parsed.objects.remove(0)
}

/// Objects come, change and go, one or several at once.
fn steps() -> impl Strategy<Value = Vec<Vec<(u8, u8, bool)>>> {
    let change = (0..2 * KINDS, 0_u8..4, proptest::bool::weighted(0.25));
    proptest::collection::vec(proptest::collection::vec(change, 1..4), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_is_the_same_as_at_once(steps in steps()) {
        follow(steps, proxy)?;
    }

    #[test]
    fn a_sidecar_step_by_step_is_the_same_as_at_once(steps in steps()) {
        follow(steps, sidecar)?;
    }
}

fn follow(steps: Vec<Vec<(u8, u8, bool)>>, proxy: fn() -> ProxyInfo) -> Result<(), TestCaseError> {
    let mut world = World::default();
    let mut translator = Translator::new(proxy());
    let mut there = BTreeMap::new();
    for changes in steps {
        for (number, version, gone) in changes {
            let object = object(number, version);
            let name = object.object_ref();
            if gone {
                world.remove(std::slice::from_ref(&name));
                there.remove(&name);
            } else {
                world.apply(vec![object.clone()]);
                there.insert(name, object);
            }
        }
        let fresh = World::from_objects(there.values().cloned().collect());
        let mut anew = Translator::new(proxy());
        anew.update(&fresh);
        let expected = translate(&fresh, &proxy());
        prop_assert_eq!(&translate(&world, &proxy()), &expected);
        let before = translator.set().clone();
        translator.update(&world);
        prop_assert_eq!(&**translator.set(), &expected.set);
        prop_assert_eq!(&**translator.diagnostics(), &*expected.diagnostics);
        prop_assert_eq!(translator.concerned(), anew.concerned());
        prop_assert_eq!(copied(&before, translator.set()), Vec::<String>::new());
    }
    Ok(())
}

/// Keys of what is equal in both sets, but not the same allocation.
fn copied(before: &ResourceSet, now: &ResourceSet) -> Vec<String> {
    fn in_table<T: PartialEq>(before: &Resources<T>, now: &Resources<T>, all: &mut Vec<String>) {
        for (key, new) in now {
            if before.get(key).is_some_and(|old| old == new && !Arc::ptr_eq(old, new)) {
                all.push(key.to_string());
            }
        }
    }
    let mut all = Vec::new();
    in_table(&before.listeners, &now.listeners, &mut all);
    in_table(&before.routes, &now.routes, &mut all);
    in_table(&before.destinations, &now.destinations, &mut all);
    in_table(&before.endpoints, &now.endpoints, &mut all);
    in_table(&before.secrets, &now.secrets, &mut all);
    for (key, routes) in &now.routes {
        let hosts = |routes: &RouteSet| {
            let named = |host: &Arc<VirtualHost>| (Key::from(host.host.to_string()), Arc::clone(host));
            routes.virtual_hosts.iter().map(named).collect::<Resources<VirtualHost>>()
        };
        if let Some(old) = before.routes.get(key) {
            in_table(&hosts(old), &hosts(routes), &mut all);
        }
    }
    all
}

/// What may be asked for in the world of these tests.
const NAMES: [&str; 12] = [
    "s0",
    "s1.default.svc.cluster.local",
    "s2.default",
    "tcp0",
    "tcp1.default.svc",
    "x.example.com",
    "y.example.com",
    "h1.example.com",
    "made.up",
    "pod.tcp0",
    "10.1.0.1",
    "10.2.0.7",
];

fn asked(numbers: &[usize]) -> BTreeSet<Key> {
    numbers.iter().filter_map(|number| NAMES.get(*number)).map(|name| Key::from(*name)).collect()
}

fn outbound(set: &ResourceSet) -> &Outbound {
    let found = set.listeners.values().find_map(|listener| match &listener.protocol {
        ListenerProtocol::Outbound(outbound) => Some(outbound),
        _ => None,
    });
    found.unwrap()
}

/// The virtual host that a name means: called just so, by itself or as an alias, else the longest pattern.
fn virtual_host<'s>(set: &'s ResourceSet, routes: &str, name: &str) -> Option<&'s VirtualHost> {
    let hosts = &set.routes.get(routes)?.virtual_hosts;
    let is = |pattern: &HostPattern| *pattern == HostPattern::Exact(name.into());
    let length = |pattern: &HostPattern| match pattern {
        HostPattern::Suffix(suffix) if name.len() > suffix.len() && name.ends_with(&**suffix) => Some(suffix.len()),
        HostPattern::Any => Some(0),
        _ => None,
    };
    let exact = hosts.iter().find(|host| is(&host.host));
    let exact = exact.or_else(|| hosts.iter().find(|host| host.aliases.iter().any(is)));
    let patterns =
        hosts.iter().flat_map(|host| std::iter::once(&host.host).chain(&host.aliases).map(move |at| (host, at)));
    let widest = patterns.filter_map(|(host, at)| Some((length(at)?, host))).rev().max_by_key(|(length, _)| *length);
    exact.or(widest.map(|(_, host)| host)).map(Arc::as_ref)
}

/// Where bytes go that do not say a name.
fn bytes(set: &ResourceSet, address: IpAddr, port: u16) -> Option<&Vec<WeightedDestination>> {
    let entries = outbound(set).tcp.iter().filter(|entry| entry.port == port && entry.sni.is_empty());
    let size = |entry: &OutboundTcp| {
        let sizes =
            entry.networks.iter().filter(|network| network.contains(&address)).map(|network| network.prefix_len());
        if entry.networks.is_empty() { Some(0) } else { sizes.max() }
    };
    let fitting = entries.filter_map(|entry| Some((size(entry)?, entry)));
    fitting.rev().max_by_key(|(size, _)| *size).map(|(_, entry)| &entry.destinations)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// What was asked for means the same to who is told of it alone as to who is told of everything, step by step and at once.
    #[test]
    fn what_is_asked_for_is_as_where_all_is_known(
        steps in steps(),
        asks in proptest::collection::vec(proptest::collection::vec(0..NAMES.len(), 0..5), 40),
    ) {
        let mut world = World::default();
        let mut on_demand = Translator::on_demand(sidecar());
        for (changes, numbers) in steps.into_iter().zip(asks) {
            for (number, version, gone) in changes {
                let object = object(number, version);
                match gone {
                    true => world.remove(&[object.object_ref()]),
                    false => world.apply(vec![object]),
                }
            }
            let names = asked(&numbers);
            on_demand.ask(names.clone());
            on_demand.update(&world);
            let mut anew = Translator::on_demand(sidecar());
            anew.ask(names.clone());
            anew.update(&world);
            prop_assert_eq!(&**on_demand.set(), &**anew.set());
            prop_assert_eq!(on_demand.concerned(), anew.concerned());

            let (some, all) = (&**on_demand.set(), &translate(&world, &sidecar()).set);
            let answered = &outbound(some).on_demand.as_ref().unwrap().answered;
            prop_assert!(names.is_subset(answered));
            let ports: BTreeSet<u16> = outbound(all).http.keys().copied().collect();
            prop_assert!(ports.iter().all(|port| outbound(some).http.contains_key(port)));
            for name in answered {
                let Ok(address) = name.parse::<IpAddr>() else {
                    for port in &ports {
                        let routes = port.to_string();
                        prop_assert_eq!(virtual_host(some, &routes, name), virtual_host(all, &routes, name), "{}", name);
                    }
                    continue;
                };
                for port in [80, 81, 443, 9000] {
                    prop_assert_eq!(bytes(some, address, port), bytes(all, address, port), "{}:{}", address, port);
                }
            }
            // All that it names is here.
            for (key, destination) in &some.destinations {
                prop_assert_eq!(all.destinations.get(key), Some(destination));
                prop_assert_eq!(some.endpoints.get(key), all.endpoints.get(key));
            }
        }
    }
}
