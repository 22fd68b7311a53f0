//! Cases of third parties, which stay outside of the repository: `MESHGATE_CASES=<folder> cargo test -p mesh-core --test translate
//! third_party -- --nocapture`. Calls in clear text and over TLS are answered from the compiled tables, without sockets.

use std::collections::BTreeMap;
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::compile::compile;
use mesh_core::snapshot::{CompiledProtocol, Decision, Request, Snapshot};
use mesh_core::{api, translate::translate, world::World};
use serde_json::Value;

#[derive(Default)]
struct Score {
    passed: u32,
    failed: u32,
    skipped: u32,
}

#[test]
fn third_party() {
    let Ok(folder) = std::env::var("MESHGATE_CASES") else { return };
    let mut score = Score::default();
    let mut files: Vec<_> = std::fs::read_dir(Path::new(&folder).join("routing"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gateway-sim-")))
        .collect();
    files.push(Path::new(&folder).join("routing/integration-gateway.yaml"));
    files.sort();
    for file in files {
        for case in read(&file).iter().filter(|case| case["role"] == "edge") {
            score.case(case, case["config"].as_str().unwrap_or_default());
        }
    }
    let samples = Path::new(&folder).join("samples");
    for case in read(&samples.join("behaviour.yaml")) {
        let files = case["apply"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let texts = files.filter_map(|file| std::fs::read_to_string(samples.join(file)).ok());
        score.case(&case, &texts.collect::<Vec<_>>().join("\n---\n"));
    }
    println!(
        "third party: {} passed, {} failed, {} skipped (TCP, other roles, special requirements)",
        score.passed, score.failed, score.skipped
    );
}

fn read(file: &Path) -> Vec<Value> {
    serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

impl Score {
    fn case(&mut self, case: &Value, config: &str) {
        let id = case["id"].as_str().unwrap_or_default();
        let snapshot = snapshot(case, config);
        for call in case["calls"].as_array().into_iter().flatten() {
            let edge = call["role"].is_null() || call["role"] == "edge";
            if !edge || call["call"]["protocol"] == "tcp" || !case["requires"].is_null() {
                self.skipped += 1;
                continue;
            }
            let (answer, expected) = (answer(&snapshot, &call["call"]), expected(&call["expect"]));
            if answer == expected || (expected == "routed" && answer.starts_with("routed")) {
                self.passed += 1;
            } else {
                self.failed += 1;
                let name = call["name"].as_str().unwrap_or_default();
                println!("{id} / {name}: expected {expected}, got {answer}; {}", call["call"]);
            }
        }
    }
}

fn snapshot(case: &Value, config: &str) -> Snapshot {
    let labels = case["proxy"]["labels"].as_object().map(|labels| {
        let pairs = labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    });
    let mut proxy = super::ingress();
    proxy.labels = labels.unwrap_or(proxy.labels);
    proxy.namespace = case["proxy"]["namespace"].as_str().unwrap_or(&proxy.namespace).to_owned();
    let parsed = api::parse("case.yaml", config, "default");
    let translation = translate(&World::from_objects(parsed.objects), &proxy);
    compile(&translation.set, None, 1).snapshot
}

fn expected(expect: &Value) -> String {
    match (expect["result"].as_str().unwrap_or_default(), expect["backend"].as_str()) {
        ("routed", Some(backend)) => format!("routed {backend}"),
        ("tls_failure" | "connection_closed", _) => "closed".to_owned(),
        (result, _) => result.to_owned(),
    }
}

fn answer(snapshot: &Snapshot, call: &Value) -> String {
    let port = call["port"].as_u64().unwrap_or_default();
    let Some(listener) =
        snapshot.listeners.values().find(|listener| u64::from(listener.listener.address.port()) == port)
    else {
        return "no_listener".to_owned();
    };
    let table = match (&listener.protocol, call["tls"].is_null()) {
        (CompiledProtocol::Http(table), true) => table,
        (CompiledProtocol::Tls(servers), false) => match servers.server(call["tls"]["sni"].as_str()) {
            Some(server) if !server.server.tls.certificates.is_empty() => &server.routes,
            _ => return "closed".to_owned(),
        },
        _ => return "closed".to_owned(),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in call["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value.as_str().unwrap_or_default()).unwrap());
    }
    let target = call["path"].as_str().unwrap_or("/");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let request = Request {
        method: call["method"].as_str().unwrap_or("GET"),
        scheme: if call["tls"].is_null() { "http" } else { "https" },
        authority: call["host"].as_str().unwrap_or_default(),
        path,
        query,
        headers: &headers,
        token: None,
    };
    match table.route(&request, &mut |_| 0) {
        Decision::NoRoute => "not_found".to_owned(),
        Decision::HttpsRedirect | Decision::Redirect { .. } => "redirect".to_owned(),
        Decision::Respond { .. } => "direct".to_owned(),
        Decision::Forward { split, .. } => {
            let mut parts = split.key.split('|').skip(1);
            let (port, subset, host) = (parts.next(), parts.next(), parts.next());
            let subset = subset.filter(|subset| !subset.is_empty()).unwrap_or("-");
            match snapshot.cluster_index(&split.key) {
                Some(_) => format!("routed {}/{subset}/{}", host.unwrap_or_default(), port.unwrap_or_default()),
                None => "unavailable".to_owned(),
            }
        }
    }
}
