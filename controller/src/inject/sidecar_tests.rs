use super::*;

fn read(text: &str) -> Pod {
    serde_saphyr::from_str(text).unwrap()
}

fn workload() -> Workload {
    let [api_version, kind, name, namespace] = ["apps/v1", "Deployment", "web-v1", "shop"].map(str::to_owned);
    Workload { api_version, kind, name, namespace }
}

fn classic() -> Settings {
    Settings { native: false, ..Settings::default() }
}

fn injected(text: &str, settings: &Settings) -> Pod {
    inject(&read(text), &workload(), settings).unwrap().pod
}

fn names(containers: &[Container]) -> Vec<&str> {
    containers.iter().map(|container| &*container.name).collect()
}

fn find<'p>(pod: &'p Pod, name: &str) -> &'p Container {
    let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    all.find(|container| container.name == name).unwrap()
}

fn variable(container: &Container, name: &str) -> Option<String> {
    let found = container.env.iter().find(|variable| variable["name"] == name)?;
    Some(found["value"].as_str().unwrap_or_default().to_owned())
}

const PLAIN: &str = "spec: { initContainers: [{ name: setup }], containers: [{ name: web }, { name: helper }] }";

#[test]
fn the_template_is_of_this_version() {
    let template = template().unwrap();
    let image = format!("meshgate/sidecar:{}", env!("CARGO_PKG_VERSION"));
    for container in template.spec.init_containers.iter().chain(&template.spec.containers) {
        assert_eq!(container.image.as_deref(), Some(&*image));
    }
}

#[test]
fn a_native_sidecar_is_there_before_all_others() {
    let pod = injected(PLAIN, &Settings::default());
    assert_eq!(names(&pod.spec.init_containers), ["istio-init", "istio-proxy", "setup"]);
    assert_eq!(names(&pod.spec.containers), ["web", "helper"]);
    let proxy = find(&pod, PROXY);
    assert_eq!(proxy.restart_policy.as_deref(), Some("Always"));
    assert!(proxy.startup_probe.is_some() && proxy.lifecycle.is_empty());
    assert_eq!(variable(proxy, "ISTIO_META_APP_CONTAINERS").unwrap(), "web,helper");
    assert_eq!(pod.metadata.annotation("kubectl.kubernetes.io/default-container"), Some("web"));
}

#[test]
fn a_classic_sidecar_is_behind_them_unless_they_wait_for_it() {
    let pod = injected(PLAIN, &classic());
    assert_eq!(names(&pod.spec.init_containers), ["setup", "istio-init"]);
    assert_eq!(names(&pod.spec.containers), ["web", "helper", "istio-proxy"]);
    let proxy = find(&pod, PROXY);
    assert!(proxy.restart_policy.is_none() && proxy.startup_probe.is_none());
    assert_eq!(proxy.lifecycle.keys().collect::<Vec<_>>(), ["preStop"]);
    let hold = "holdApplicationUntilProxyStarts: true";
    let text = format!("metadata: {{ annotations: {{ proxy.istio.io/config: '{hold}' }} }}\n{PLAIN}");
    let pod = injected(&text, &classic());
    assert_eq!(names(&pod.spec.containers), ["istio-proxy", "web", "helper"]);
    assert_eq!(find(&pod, PROXY).lifecycle["postStart"]["exec"]["command"], json!(["meshgate-sidecar", "wait"]));
    assert_eq!(pod.metadata.annotation("kubectl.kubernetes.io/default-container"), Some("web"));
    let status: Value = serde_json::from_str(pod.metadata.annotation(STATUS).unwrap()).unwrap();
    assert_eq!(
        status,
        json!({
            "initContainers": ["istio-init"], "containers": ["istio-proxy"], "volumes": ["istio-token", "istiod-ca-cert"],
            "imagePullSecrets": null, "revision": "default",
        })
    );
    // A pod may want what its cluster does not do by itself.
    let text = format!("metadata: {{ annotations: {{ sidecar.istio.io/nativeSidecar: 'true' }} }}\n{PLAIN}");
    assert_eq!(names(&injected(&text, &classic()).spec.containers), ["web", "helper"]);
}

#[test]
fn annotations_are_heard() {
    let pod = injected(
        r#"
metadata:
  annotations:
    sidecar.istio.io/proxyCPU: 50m
    sidecar.istio.io/proxyMemoryLimit: 64Mi
    sidecar.istio.io/proxyImage: registry.test/sidecar:2
    sidecar.istio.io/logLevel: warning
    sidecar.istio.io/userVolume: '{"extra":{"emptyDir":{}},"there":{"emptyDir":{}}}'
    sidecar.istio.io/userVolumeMount: '{"extra":{"mountPath":"/extra"}}'
    readiness.status.sidecar.istio.io/periodSeconds: "3"
    traffic.sidecar.istio.io/excludeOutboundPorts: "3306"
    proxy.istio.io/config: '{"concurrency": 4, "terminationDrainDuration": "20s", "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}'
spec:
  containers: [{ name: web }]
  volumes: [{ name: there }]
"#,
        &Settings { pull_policy: Some("Never".to_owned()), ..Settings::default() },
    );
    let (proxy, init) = (find(&pod, PROXY), find(&pod, INIT));
    let resources = json!({ "requests": { "cpu": "50m" }, "limits": { "memory": "64Mi" } });
    for container in [proxy, init] {
        assert_eq!(container.image.as_deref(), Some("registry.test/sidecar:2"));
        assert_eq!(container.image_pull_policy.as_deref(), Some("Never"));
        assert_eq!(json!(container.resources), resources);
        assert_eq!(variable(container, "ISTIO_META_DNS_CAPTURE").unwrap(), "true");
    }
    assert_eq!(variable(proxy, "TERMINATION_DRAIN_DURATION_SECONDS").unwrap(), "20");
    assert!(proxy.args.ends_with(&["--workers=4".to_owned(), "--log=warn".to_owned()]), "{:?}", proxy.args);
    assert_eq!(proxy.readiness_probe.as_ref().unwrap().period_seconds, Some(3));
    assert!(proxy.volume_mounts.contains(&json!({ "name": "extra", "mountPath": "/extra" })));
    let volumes: Vec<&str> = pod.spec.volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(volumes, ["there", "istio-token", "istiod-ca-cert", "extra"]);
    assert_eq!(
        init.args.join(" "),
        "redirect -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020 -o 3306"
    );
}

#[test]
fn nothing_is_led_where_that_is_asked_for() {
    let pod = injected(
        "metadata: { annotations: { sidecar.istio.io/interceptionMode: NONE, status.sidecar.istio.io/port: '0' } }\nspec: { containers: [{ name: web, livenessProbe: { tcpSocket: { port: 80 } } }] }",
        &Settings::default(),
    );
    assert_eq!(names(&pod.spec.init_containers), ["istio-proxy"]);
    let proxy = find(&pod, PROXY);
    assert!(proxy.readiness_probe.is_none() && proxy.startup_probe.is_none());
    assert_eq!(variable(proxy, "ISTIO_META_INTERCEPTION_MODE").unwrap(), "NONE");
    assert!(find(&pod, "web").liveness_probe.as_ref().unwrap().tcp_socket.is_some());
}

#[test]
fn a_container_of_the_user_s_own_is_laid_over_ours() {
    let text = r#"
spec:
  containers:
  - name: istio-proxy
    image: auto
    env: [{ name: EXTRA, value: "1" }]
    resources: { requests: { cpu: 200m } }
    securityContext: { runAsUser: 1500, runAsGroup: 1501 }
    readinessProbe: { httpGet: { path: /own, port: 15021 } }
  - name: web
"#;
    let pod = injected(text, &Settings::default());
    assert_eq!(names(&pod.spec.init_containers), ["istio-init", "istio-proxy"]);
    assert_eq!(names(&pod.spec.containers), ["web"]);
    let proxy = find(&pod, PROXY);
    assert!(proxy.image.as_ref().unwrap().starts_with("meshgate/sidecar:"));
    assert_eq!(variable(proxy, "EXTRA").unwrap(), "1");
    assert_eq!(json!(proxy.resources), json!({ "requests": { "cpu": "200m", "memory": "16Mi" } }));
    assert_eq!(proxy.readiness_probe.as_ref().unwrap().http_get.as_ref().unwrap()["path"], "/own");
    assert!(find(&pod, INIT).args.join(" ").contains("-u 1500 -g 1501"));
    assert_eq!(variable(proxy, "ISTIO_META_APP_CONTAINERS").unwrap(), "web");
}

#[test]
fn labels_and_annotations_of_the_user_s_stay() {
    let pod = injected(
        r#"
metadata:
  labels: { security.istio.io/tlsMode: disabled, service.istio.io/canonical-name: mine, version: v3 }
  annotations: { prometheus.io/scrape: "true", prometheus.io/port: "9100", kubectl.kubernetes.io/default-container: helper }
spec: { containers: [{ name: web }, { name: helper }], somethingNew: { kept: true } }
"#,
        &Settings::default(),
    );
    assert_eq!(pod.metadata.label("security.istio.io/tlsMode"), Some("disabled"));
    assert_eq!(pod.metadata.label(CANONICAL_NAME), Some("mine"));
    assert_eq!(pod.metadata.label(CANONICAL_REVISION), Some("v3"));
    assert_eq!(pod.metadata.annotation("kubectl.kubernetes.io/default-container"), Some("helper"));
    assert_eq!(pod.metadata.annotation("prometheus.io/port"), Some("15020"));
    let scraped = variable(find(&pod, PROXY), metrics::APPLICATION).unwrap();
    assert_eq!(scraped, r#"{"scrape":"true","path":"","port":"9100"}"#);
    assert_eq!(pod.spec.rest["somethingNew"]["kept"], true);
}

#[test]
fn another_template_is_refused() {
    let pod = read(
        "metadata: { annotations: { inject.istio.io/templates: gateway } }\nspec: { containers: [{ name: web }] }",
    );
    let refusal = inject(&pod, &workload(), &Settings::default()).unwrap_err();
    insta::assert_snapshot!(refusal.to_string(), @"annotation `inject.istio.io/templates`: there is no template `gateway`, only `sidecar`; gateways are installed by `meshctl install`");
}

#[test]
fn native_sidecars_are_there_from_1_29() {
    assert!(has_native_sidecars("1", "29") && has_native_sidecars("1", "33+") && has_native_sidecars("2", "0"));
    assert!(!has_native_sidecars("1", "28+") && !has_native_sidecars("", ""));
}
