//! Probes of the application, and hooks of its life: the kubelet has no certificate of the mesh, so it asks the sidecar, which asks the application. What
//! the sidecar asks is written into its environment, in Istio's words.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::pod::{Container, Pod, Probe};

/// Variable of the sidecar that says what to ask for which path.
pub const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";
/// Where it is asked.
pub const STATUS_PORT: u16 = 15020;

/// What nobody guesses, as a path has it. None: there is none to be had.
pub fn secret() -> Option<String> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Leads all probes of the application to the sidecar. What the sidecar has to know, as JSON; empty: there are none.
///
/// A probe may be asked by anybody who reaches the pod, as without a mesh; a hook does something, and the sidecar does it past all
/// policies. It cannot tell the kubelet, which comes from an address of the node, from others, but the kubelet alone (and who may read
/// the pod) knows the end of the hook's path: a `secret`. Where there is none the hook stays as it is.
pub fn rewrite(pod: &mut Pod, secret: fn() -> Option<String>) -> Option<String> {
    let mut probers = BTreeMap::new();
    // Sidecars of others are init containers with probes.
    for container in pod.spec.containers.iter_mut().chain(&mut pod.spec.init_containers) {
        of_container(container, secret, &mut probers);
    }
    if probers.is_empty() { None } else { serde_json::to_string(&probers).ok() }
}

fn of_container(container: &mut Container, secret: fn() -> Option<String>, probers: &mut BTreeMap<String, Value>) {
    let Container { name, ports, liveness_probe, readiness_probe, startup_probe, lifecycle, .. } = container;
    for (kind, probe) in [("livez", liveness_probe), ("readyz", readiness_probe), ("startupz", startup_probe)] {
        let Some(probe) = probe else { continue };
        let path = format!("/app-health/{name}/{kind}");
        if let Some(prober) = prober(probe, ports) {
            *probe = led(probe, &path);
            probers.insert(path, prober);
        }
    }
    for (kind, hook) in [("poststartz", "postStart"), ("prestopz", "preStop")] {
        let Some(hook) = lifecycle.get_mut(hook) else { continue };
        // It is written as a probe is, without times.
        let Ok(probe) = Probe::deserialize(&*hook) else { continue };
        if let Some(prober) = prober(&probe, ports)
            && let Some(path) = secret().map(|secret| format!("/app-lifecycle/{name}/{kind}/{secret}"))
            && let Ok(led) = serde_json::to_value(led(&probe, &path))
        {
            *hook = led;
            probers.insert(path, prober);
        }
    }
}

/// What the sidecar asks instead of the kubelet. None for a command, which runs in the container.
fn prober(probe: &Probe, ports: &[Value]) -> Option<Value> {
    let mut prober = Map::new();
    let asked = [("httpGet", &probe.http_get), ("tcpSocket", &probe.tcp_socket), ("grpc", &probe.grpc)];
    let (kind, action) = asked.into_iter().find_map(|(kind, action)| Some((kind, action.as_ref()?)))?;
    let mut action = action.clone();
    let port = action.get("port").map(|port| number(port, ports));
    if let Some(port) = port {
        // Already led, by somebody who did the same.
        if port == json!(STATUS_PORT) {
            return None;
        }
        action.insert("port".to_owned(), port);
    }
    prober.insert(kind.to_owned(), action.into());
    if let Some(seconds) = probe.timeout_seconds {
        prober.insert("timeoutSeconds".to_owned(), seconds.into());
    }
    Some(prober.into())
}

/// A name is that of a port of the container; one that nobody has stays, and the probe fails as it would have.
fn number(port: &Value, ports: &[Value]) -> Value {
    let Some(name) = port.as_str() else { return port.clone() };
    if let Ok(number) = name.parse::<u16>() {
        return number.into();
    }
    let named = ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(name));
    named.and_then(|port| port.get("containerPort")).unwrap_or(port).clone()
}

/// The same probe, to the sidecar. Headers stay, for it hands them on.
fn led(probe: &Probe, path: &str) -> Probe {
    let mut action = Map::new();
    action.insert("path".to_owned(), path.into());
    action.insert("port".to_owned(), STATUS_PORT.into());
    if let Some(headers) = probe.http_get.as_ref().and_then(|action| action.get("httpHeaders")) {
        action.insert("httpHeaders".to_owned(), headers.clone());
    }
    Probe { http_get: Some(action), tcp_socket: None, grpc: None, ..probe.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(containers: Value) -> (Value, Value) {
        let mut pod = Pod::read(&json!({ "spec": containers })).unwrap();
        let probers = rewrite(&mut pod, || Some("s3".to_owned()))
            .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        (serde_json::to_value(&pod.spec).unwrap(), probers)
    }

    #[test]
    fn every_kind_of_probe_is_led_but_commands() {
        let (spec, probers) = rewritten(json!({
            "containers": [{
                "name": "web",
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "livenessProbe": {
                    "httpGet": { "path": "/live", "port": "http", "scheme": "HTTPS", "host": "10.0.0.1", "httpHeaders": [{ "name": "a", "value": "b" }] },
                    "timeoutSeconds": 7, "terminationGracePeriodSeconds": 9,
                },
                "readinessProbe": { "tcpSocket": { "port": "9090" }, "periodSeconds": 3 },
                "startupProbe": { "grpc": { "port": 50051, "service": "s" } },
            }, { "name": "job", "livenessProbe": { "exec": { "command": ["true"] } } }],
            "initContainers": [{ "name": "other", "restartPolicy": "Always", "startupProbe": { "tcpSocket": { "port": "gone" } } }],
        }));
        assert_eq!(
            probers,
            json!({
                "/app-health/other/startupz": { "tcpSocket": { "port": "gone" } },
                "/app-health/web/livez": {
                    "httpGet": { "path": "/live", "port": 8080, "scheme": "HTTPS", "host": "10.0.0.1", "httpHeaders": [{ "name": "a", "value": "b" }] },
                    "timeoutSeconds": 7,
                },
                "/app-health/web/readyz": { "tcpSocket": { "port": 9090 } },
                "/app-health/web/startupz": { "grpc": { "port": 50051, "service": "s" } },
            })
        );
        let web = &spec["containers"][0];
        let led =
            json!({ "path": "/app-health/web/livez", "port": 15020, "httpHeaders": [{ "name": "a", "value": "b" }] });
        assert_eq!(
            web["livenessProbe"],
            json!({ "httpGet": led, "timeoutSeconds": 7, "terminationGracePeriodSeconds": 9 })
        );
        assert_eq!(
            web["readinessProbe"],
            json!({ "httpGet": { "path": "/app-health/web/readyz", "port": 15020 }, "periodSeconds": 3 })
        );
        assert_eq!(web["startupProbe"], json!({ "httpGet": { "path": "/app-health/web/startupz", "port": 15020 } }));
        assert_eq!(spec["containers"][1]["livenessProbe"], json!({ "exec": { "command": ["true"] } }));
        assert_eq!(spec["initContainers"][0]["startupProbe"]["httpGet"]["port"], 15020);
    }

    #[test]
    fn hooks_that_ask_the_application_are_led_too() {
        let get = json!({ "path": "/drain", "port": "http", "scheme": "HTTPS" });
        let (spec, probers) = rewritten(json!({
            "containers": [{
                "name": "web",
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "lifecycle": { "preStop": { "httpGet": get }, "postStart": { "exec": { "command": ["true"] } }, "stopSignal": "SIGUSR1" },
            }],
        }));
        let asked = json!({ "path": "/drain", "port": 8080, "scheme": "HTTPS" });
        assert_eq!(probers, json!({ "/app-lifecycle/web/prestopz/s3": { "httpGet": asked } }));
        let led = json!({ "path": "/app-lifecycle/web/prestopz/s3", "port": 15020 });
        assert_eq!(
            spec["containers"][0]["lifecycle"],
            json!({ "preStop": { "httpGet": led }, "postStart": { "exec": { "command": ["true"] } }, "stopSignal": "SIGUSR1" })
        );
    }

    #[test]
    fn secrets_are_for_one_pod_each() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert!(one.len() == 22 && one != other);
        let hooks =
            json!({ "containers": [{ "name": "web", "lifecycle": { "preStop": { "httpGet": { "port": 1 } } } }] });
        let mut pod = Pod::read(&json!({ "spec": hooks })).unwrap();
        assert_eq!(rewrite(&mut pod, || None), None);
        assert_eq!(
            serde_json::to_value(&pod.spec).unwrap()["containers"][0]["lifecycle"]["preStop"]["httpGet"],
            json!({ "port": 1 })
        );
    }

    #[test]
    fn what_is_led_already_stays() {
        let probe = json!({ "httpGet": { "path": "/app-health/web/livez", "port": 15020 } });
        let (spec, probers) = rewritten(json!({ "containers": [{ "name": "web", "livenessProbe": probe }] }));
        assert_eq!((&spec["containers"][0]["livenessProbe"], probers), (&probe, Value::Null));
    }
}
