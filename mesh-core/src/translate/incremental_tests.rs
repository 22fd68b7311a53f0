//! A world that was changed step by step means the same as one of the same objects.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::translate;
use crate::api::{ApiObject, parse};
use crate::model::ProxyInfo;
use crate::world::World;

fn proxy() -> ProxyInfo {
    ProxyInfo::edge("gateway", "default", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

/// One of a few objects, in one of a few versions.
fn object(number: u8, version: u8) -> ApiObject {
    let name = number / 8 % 2;
    let text = match number % 8 {
        0 => format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g{name}}}\nspec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 8{version}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}"
        ),
        1 => format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{name}}}\nspec: {{hosts: [h{version}.example.com], gateways: [g0, g1], http: [{{route: [{{destination: {{host: s{name}, subset: a}}}}]}}]}}"
        ),
        2 => format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d{name}}}\nspec: {{host: s{name}, subsets: [{{name: a, labels: {{version: v{version}}}}}]}}"
        ),
        3 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}}}\nspec: {{selector: {{app: s{name}}}, ports: [{{name: http, port: 80, targetPort: 8{version}}}]}}"
        ),
        4 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{name}, labels: {{kubernetes.io/service-name: s{name}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.0.0.{version}], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: p{name}}}}}]"
        ),
        5 => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{name}, labels: {{app: s{name}, version: v{version}}}}}\nspec: {{containers: []}}"
        ),
        6 => format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x{name}}}\nspec: {{hosts: [s{name}.default.svc.cluster.local], resolution: STATIC, ports: [{{number: 81, name: http, protocol: HTTP}}], endpoints: [{{address: 10.0.1.{version}}}]}}"
        ),
        _ => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: 'connectTimeout: {}s'}}",
            version + 1
        ),
    };
    parse("", &text, "default").objects.remove(0)
}

proptest! {
    #[test]
    fn step_by_step_is_the_same_as_at_once(steps in proptest::collection::vec((0_u8..16, 0_u8..4, any::<bool>()), 1..30)) {
        let mut world = World::default();
        let mut there = BTreeMap::new();
        for (number, version, gone) in steps {
            let object = object(number, version);
            let name = object.object_ref();
            if gone {
                world.remove(std::slice::from_ref(&name));
                there.remove(&name);
            } else {
                world.apply(vec![object.clone()]);
                there.insert(name, object);
            }
            let fresh = World::from_objects(there.values().cloned().collect());
            prop_assert_eq!(translate(&world, &proxy()), translate(&fresh, &proxy()));
        }
    }
}
