//! Sidecars know what their workload has called, and ask for the rest.

use std::fmt::Write as _;

use super::*;

/// Services that nobody needs.
const OTHERS: usize = 200;

fn others() -> String {
    (0..OTHERS).fold(String::new(), |mut all, number| {
        let _ = write!(
            all,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: other{number}, namespace: default}}\nspec: {{clusterIP: 10.96.1.{number}, ports: [{{name: http, port: 80}}, {{name: tcp, port: 3306}}]}}\n"
        );
        all
    })
}

/// A Service with the endpoints of `web`.
fn later() -> &'static str {
    "apiVersion: v1
kind: Service
metadata: {name: later, namespace: default}
spec: {clusterIP: 10.96.0.20, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"
}

async fn knows(workload: &Workload, host: &str) -> anyhow::Result<bool> {
    Ok(workload.page(15000, "/config_dump").await?.contains(&format!("{host}.default.svc.cluster.local")))
}

async fn asked(workload: &Workload) -> anyhow::Result<f64> {
    let text = workload.page(15090, "/stats/prometheus").await?;
    let line = text.lines().find_map(|line| line.strip_prefix("meshgate_controller_asked_total "));
    Ok(line.context("the counter")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_knows_what_its_workload_calls_and_asks_for_the_rest() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    mesh.control.apply(&others()).await?;
    let _application = web.echo(8080).await?;
    assert!(!knows(&client, "web").await? && !knows(&client, "other17").await?);

    // Of the first request: the address that it goes to.
    until(|| async {
        let answer = client.get(vip(80), "web", "/").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    assert_eq!(asked(&client).await?, 1.0);
    assert!(knows(&client, "web").await? && !knows(&client, "other17").await?);
    // Another one on the same way: its name.
    let answer = client.get(vip(80), "other17", "/").await?;
    assert_eq!((answer.status, answer.text()), (503, "no healthy upstream".to_owned()));
    assert_eq!(asked(&client).await?, 2.0);
    assert!(knows(&client, "other17").await? && !knows(&client, "other18").await?);
    // Bytes: nobody is there, which is an answer.
    assert_eq!(client.converse(([10, 96, 1, 18], 3306).into(), "there").await.unwrap_or_default(), "");
    assert!(knows(&client, "other18").await?);

    // A host of somewhere else is asked for once.
    let outside = mesh.network.pod()?;
    let _outside = echo(&outside, 80, "outside").await?;
    let at = SocketAddr::new(outside.ip(), 80);
    for _ in 0..3 {
        let answer = client.get(at, "outside.example", "/").await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(asked(&client).await?, 4.0);

    // One that is not there yet, and then is.
    assert_eq!(saw(&client.get(at, "later", "/").await?)?.backend, "outside");
    mesh.apply_until(later(), || async {
        let answer = client.get(at, "later", "/").await?;
        ensure!(saw(&answer)?.backend == "web", "{}", answer.text());
        Ok(())
    })
    .await?;
    assert_eq!(asked(&client).await?, 5.0);
    // A question about another one is asked, too, and answered like any.
    let explained = client.page(15000, "/explain?url=http://other19/a").await?;
    assert!(explained.contains("outbound|80||other19.default.svc.cluster.local"), "{explained}");
    // The application at the other end calls nobody.
    assert_eq!(asked(&web).await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_answers_what_is_known_goes_on_and_no_service_is_called_past_its_rules() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mut mesh, client, web } = two().await?;
    mesh.control.apply(&others()).await?;
    let _application = web.echo(8080).await?;
    until(|| async { client.get(vip(80), "web", "/").await.and_then(|answer| saw(&answer).map(|_| ())) }).await?;
    let outside = mesh.network.pod()?;
    let _outside = echo(&outside, 80, "outside").await?;

    mesh.leave().await;
    assert_eq!(client.get(vip(80), "web.default", "/").await?.status, 200);
    // All of them wait, and are refused: any of them may be for a service, whatever the address.
    let (at, far) = (SocketAddr::new(outside.ip(), 80), SocketAddr::new(outside.ip(), 3306));
    let bytes = SocketAddr::from(([10, 96, 1, 2], 3306));
    let _bytes = server_first(&outside, far).await?;
    let (by_name, by_address, connection, elsewhere) = tokio::join!(
        client.get(vip(80), "other1", "/"),
        client.get(([10, 96, 1, 3], 80).into(), "other3", "/"),
        client.converse(bytes, "there"),
        client.get(at, "outside.example", "/"),
    );
    assert_eq!((by_name?.status, by_address?.status, elsewhere?.status), (503, 503, 503));
    assert_eq!(connection.unwrap_or_default(), "");
    // Bytes to an address that no service has go there.
    assert_eq!(client.converse(far, "there").await?, "hello there");
    // Nobody is waited for a second time.
    let begun = std::time::Instant::now();
    assert_eq!(client.get(vip(80), "other5", "/").await?.status, 503);
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
    until(|| async {
        ensure!(client.sidecar.log().contains("controller_did_not_answer"), "{}", client.sidecar.log());
        Ok(())
    })
    .await?;
    // And what was known is still.
    assert_eq!(client.get(vip(80), "web", "/").await?.status, 200);

    // It is back, and what was asked meanwhile is answered, without anything being forgotten.
    mesh.serve().await?;
    until(|| async {
        ensure!(client.get(vip(80), "web", "/").await?.status == 200);
        ensure!(knows(&client, "other1").await? && knows(&client, "other3").await?, "not yet");
        Ok(())
    })
    .await?;
    let answer = client.get(vip(80), "other4", "/").await?;
    assert_eq!((answer.status, answer.text()), (503, "no healthy upstream".to_owned()));
    Ok(())
}
