//! The third-party cases that lie beside the repository (`MESHGATE_CASES`, else `../shared/cases`), as far as they are about
//! an edge gateway that reads Istio's API. Elsewhere these tests say so and pass.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use e2e::third_party::{self, Objects, Row, Running, Verdict};

/// Findings that say: this is read, but not built yet.
const NOT_BUILT: &[&str] = &["MESH0005", "MESH0115", "MESH0116", "MESH0124"];

fn cases() -> Option<PathBuf> {
    let folder = third_party::folder();
    if folder.is_none() {
        e2e::say("skipped: there are no third-party cases beside the repository");
    }
    folder
}

fn rows(file: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[derive(Default)]
struct Count {
    hold: u32,
    not_built: Vec<String>,
    fail: Vec<String>,
}

impl Count {
    fn finish(&self, what: &str) {
        e2e::say(&format!(
            "{what}: {} rows hold, {} fail, {} need what is not built yet",
            self.hold,
            self.fail.len(),
            self.not_built.len()
        ));
        for row in &self.not_built {
            e2e::say(&format!("  not built: {row}"));
        }
        assert!(self.fail.is_empty(), "{} rows of {what} fail:\n{}", self.fail.len(), self.fail.join("\n"));
    }
}

async fn run(row: &Row, objects: &Objects, count: &mut Count) {
    let running = match Running::start(objects, row.proxy.as_ref()).await {
        Ok(running) => running,
        Err(error) => return count.fail.push(format!("{}: {error:#}", row.id)),
    };
    let codes = running.codes(row.proxy.as_ref()).unwrap();
    // A gateway that reads files does not know that an endpoint is its own address; Ingress objects are a later matter.
    let own_address =
        row.proxy.as_ref().and_then(|proxy| proxy.ip.as_deref()).is_some_and(|ip| objects.names_endpoint(ip));
    let not_built =
        codes.iter().any(|(code, _)| NOT_BUILT.contains(&code.as_str())) || own_address || objects.has_kind("Ingress");
    for call in &row.calls {
        if call.role.as_deref().is_some_and(|role| role != "edge") {
            continue;
        }
        let verdict = if call.expect.distribution.is_empty() {
            running.call(&call.call, &call.expect).await
        } else {
            running
                .distribution(&call.call, &call.expect)
                .await
                .unwrap_or_else(|error| Verdict::Fails(format!("{error:#}")))
        };
        match verdict {
            Verdict::Holds => count.hold += 1,
            Verdict::Fails(why) => {
                let place = format!(
                    "{} {} {}{}: {why}",
                    row.id,
                    call.name,
                    call.call.host,
                    call.call.path.as_deref().unwrap_or("")
                );
                if not_built || !row.requires.is_empty() {
                    count.not_built.push(format!("{place} {:?}", row.requires));
                } else {
                    count.fail.push(format!("{place}\n{}", running.log()));
                }
            }
        }
    }
}

#[test]
fn every_file_of_bookinfo_networking_loads_without_an_error() {
    let Some(cases) = cases() else { return };
    let folder = cases.join("samples/bookinfo/networking");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = mesh_core::api::parse(&path.to_string_lossy(), &text, "default");
        let errors: Vec<_> =
            parsed.diagnostics.iter().filter(|found| found.severity == mesh_core::diag::Severity::Error).collect();
        assert!(errors.is_empty() && !parsed.objects.is_empty(), "{}: {errors:#?}", path.display());
        checked += 1;
    }
    e2e::say(&format!("{checked} files of samples/bookinfo/networking load without an error"));
    assert!(checked > 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_behave_at_the_edge() {
    let Some(cases) = cases() else { return };
    let mut count = Count::default();
    for row in rows(&cases.join("samples/behaviour.yaml")) {
        let edge = row.calls.iter().any(|call| call.role.as_deref() == Some("edge") && call.call.protocol != "tcp");
        if !edge || row.id.contains("gateway-api") {
            continue;
        }
        let mut objects = Objects::new();
        for file in &row.apply {
            objects.add(&std::fs::read_to_string(cases.join("samples").join(file)).unwrap()).unwrap();
        }
        objects.deploy();
        row.requires.iter().for_each(|sentence| objects.require(sentence));
        run(&row, &objects, &mut count).await;
    }
    count.finish("samples/behaviour.yaml, edge, Istio API");
    assert!(count.hold >= 16, "the rows of bookinfo-gateway at least");
}

/// The tutorial's rules are for the mesh. Bound to a listener of the gateway instead, they must do the same there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookinfo_rules_of_the_mesh_hold_at_a_gateway_that_they_are_bound_to() {
    let Some(cases) = cases() else { return };
    let mut count = Count::default();
    for mut row in rows(&cases.join("samples/behaviour.yaml")) {
        let applied = row.apply.join(" ");
        // Faults, mTLS and DNS are later matters; the mysql rows ask for workloads that no file has.
        let later = ["fault", "delay", "abort", "mtls", "egress", "mysql", "gateway-api"];
        let outbound = row.calls.iter().any(|call| call.role.as_deref() == Some("outbound"));
        if !row.id.contains("/bookinfo/") || !outbound || later.iter().any(|what| applied.contains(what)) {
            continue;
        }
        let mut objects = Objects::new();
        for file in &row.apply {
            objects.add(&std::fs::read_to_string(cases.join("samples").join(file)).unwrap()).unwrap();
        }
        objects.deploy();
        objects.bind_mesh_rules(&BTreeSet::from([9080]));
        row.calls.retain(|call| objects.has_rules_for(&call.call.host));
        for call in &mut row.calls {
            call.role = Some("edge".to_owned());
            call.call.host.push_str(".default.svc.cluster.local");
        }
        run(&row, &objects, &mut count).await;
    }
    count.finish("samples/bookinfo, rules of the mesh bound to a gateway");
}

/// The same with Istio's integration cases of VirtualServices: they are about rules, not about who applies them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtual_service_rows_hold_at_a_gateway_that_they_are_bound_to() {
    let Some(cases) = cases() else { return };
    let mut count = Count::default();
    for mut row in rows(&cases.join("routing/integration-virtual-service.yaml")) {
        let mut objects = Objects::new();
        objects.add(&row.config).unwrap();
        objects.bind_mesh_rules(&row.calls.iter().map(|call| call.call.port).collect());
        let namespace = row.proxy.take().map_or_else(|| "default".to_owned(), |proxy| proxy.namespace);
        for call in &mut row.calls {
            // A sidecar knows short names of its namespace, a gateway full ones only.
            let short = call.call.host.clone();
            let (name, port) = short.split_once(':').map_or((short.as_str(), None), |(name, port)| (name, Some(port)));
            if !name.contains('.') {
                let full = format!("{name}.{namespace}.svc.cluster.local");
                call.call.host = port.map_or_else(|| full.clone(), |port| format!("{full}:{port}"));
                call.expect.location = call
                    .expect
                    .location
                    .take()
                    .map(|location| location.replace(&format!("//{name}"), &format!("//{full}")));
            }
        }
        run(&row, &objects, &mut count).await;
    }
    count.finish("routing/integration-virtual-service.yaml, bound to a gateway");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_rows_hold_at_the_edge() {
    let Some(cases) = cases() else { return };
    let mut count = Count::default();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(cases.join("routing")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        for row in rows(&file) {
            // Claims of tokens need keys that these rows have not.
            if row.role.as_deref() != Some("edge") || row.id.contains("jwt-claim") {
                continue;
            }
            let mut objects = Objects::new();
            match objects.add(&row.config) {
                Ok(()) => run(&row, &objects, &mut count).await,
                Err(error) => count.fail.push(format!("{}: {error:#}", row.id)),
            }
        }
    }
    count.finish("routing/*.yaml, edge");
}
