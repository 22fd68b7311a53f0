//! Certificates of two sidecars and the root of their CA change, under requests of which none may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use controller::ca::Authority;
use futures::future::try_join_all;
use serde_json::Value;

use super::*;

/// Certificates in the default run; `MESHGATE_ROTATIONS` asks for more.
const ROTATIONS: u32 = 20;
/// Who ask all the time. Every other one dials for each request.
const CLIENTS: u32 = 4;
/// Requests that must have come after the last change.
const LAST: u32 = 50;

/// Of a sidecar: its workload's certificate, and whom it believes.
async fn certificates(workload: &Workload) -> anyhow::Result<Value> {
    let page: Value = serde_json::from_str(&workload.page(15000, "/certs").await?)?;
    page.get("workload").cloned().context("no workload")
}

async fn renew(workload: &Workload) -> anyhow::Result<()> {
    let renewals = |page: Value| page.get("renewals").and_then(Value::as_u64);
    let before = renewals(certificates(workload).await?);
    workload.sidecar.reload()?;
    until(|| async {
        let now = renewals(certificates(workload).await?);
        ensure!(now > before, "{now:?} certificates at {}", workload.name);
        Ok(())
    })
    .await
}

/// What all believe from now on; both of two roots, or one.
async fn believe(mesh: &Mesh, workloads: [&Workload; 2], roots: &str, count: usize) -> anyhow::Result<()> {
    std::fs::write(mesh.control.root(), roots)?;
    for workload in workloads {
        until(|| async {
            let page = certificates(workload).await?;
            let known = page.get("roots").and_then(Value::as_array).map(Vec::len);
            ensure!(known == Some(count), "{} believes {page:#}", workload.name);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Asks until it is told to stop. An error: one request was not answered well.
async fn ask(number: u32, stop: Arc<AtomicBool>, answered: Arc<AtomicU32>) -> anyhow::Result<()> {
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        let mut current = match client.take() {
            Some(client) => client,
            None => Client::connect(vip(80), None, false).await?.0,
        };
        let answer = current.send(&Request::get("web", "/")).await.context("a connection")?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        answered.fetch_add(1, Ordering::Relaxed);
        client = number.is_multiple_of(2).then_some(current);
    }
    Ok(())
}

/// The certificate that the client's proxy shows.
async fn shown(client: &Workload) -> anyhow::Result<String> {
    let seen = saw(&client.get(vip(80), "web", "/").await?)?;
    let header = seen.headers.iter().find(|(name, _)| name == "x-forwarded-client-cert").context("who came")?;
    let hash = header.1.split(';').find_map(|part| part.strip_prefix("Hash="));
    Ok(hash.context("no hash")?.to_owned())
}

/// All changes, one after the other.
async fn change(mesh: &mut Mesh, workloads: [&Workload; 2], rotations: u32) -> anyhow::Result<()> {
    for number in 0..rotations {
        let workload = workloads.get(number as usize % 2).context("two")?;
        renew(workload).await?;
    }
    // A new root: first everybody believes both, then the new one signs, then the old one is forgotten.
    let old = mesh.control.authority().root_pem().to_owned();
    let next = Authority::generate()?;
    let new = next.root_pem().to_owned();
    believe(mesh, workloads, &format!("{old}{new}"), 2).await?;
    mesh.sign_with(next).await?;
    for workload in workloads {
        renew(workload).await?;
    }
    believe(mesh, workloads, &new, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_the_root_change_under_load_and_no_request_fails() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let rotations = match std::env::var("MESHGATE_ROTATIONS") {
        Ok(text) => text.parse().context("MESHGATE_ROTATIONS")?,
        Err(_) => ROTATIONS,
    };
    let Two { mut mesh, client, web } = two().await?;
    let _application = web.echo(8080).await?;
    mesh.control.apply(STRICT).await?;
    until(|| async { shown(&client).await.map(drop) }).await?;
    let first = shown(&client).await?;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let load = try_join_all((0..CLIENTS).map(|number| client.pod.run(ask(number, stop.clone(), answered.clone()))));
    let changes = async {
        let changed = change(&mut mesh, [&client, &web], rotations).await;
        let goal = answered.load(Ordering::Relaxed) + LAST;
        let more = until(|| async {
            let now = answered.load(Ordering::Relaxed);
            ensure!(now >= goal, "{now} requests, not {goal}");
            Ok(())
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        changed.and(more)
    };
    let (loaded, changed) = tokio::join!(load, changes);
    let count = answered.load(Ordering::Relaxed);
    loaded.with_context(|| format!("of {count} requests; log of the client's:\n{}", client.sidecar.log()))?;
    changed?;
    assert_ne!(shown(&client).await?, first, "the first certificate is still shown");
    // Who believes the new root alone has the new root's certificate.
    let clear = get(&mesh.network.pod()?, SocketAddr::new(web.pod.ip(), 8080), "web", "/").await;
    assert!(clear.is_err(), "clear text is taken");
    e2e::say(&format!("mesh: {rotations} certificates and a root, {count} requests, none failed"));
    Ok(())
}
