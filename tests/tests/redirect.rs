//! `meshgate-sidecar redirect` in network namespaces: what it writes, and where connections then arrive. And the third-party
//! rows about such rules, where they lie beside the repository.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, ensure};
use e2e::netns::{self, Network, Pod};
use e2e::third_party::redirect::{self, Case};
use e2e::{process, third_party};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// As the injected init container says it.
const INJECTED: [&str; 14] =
    ["-p", "15001", "-z", "15006", "-u", "1337", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"];

async fn redirect(pod: &Pod, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(process::sidecar()?);
    command.arg("redirect").args(arguments);
    let output = pod.output(command).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The rules in force, without counters and times.
async fn rules(pod: &Pod, command: &[&str]) -> anyhow::Result<String> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let output = pod.output(command).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect())
}

#[tokio::test]
async fn rules_written_twice_are_rules_written_once_and_nothing_is_left_of_them() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let network = Network::new()?;
    let pod = network.pod()?;
    let foreign = "*nat\n-A OUTPUT -p tcp -d 192.0.2.1 -j REDIRECT --to-ports 1\nCOMMIT\n";
    let mut command = Command::new("sh");
    command.args(["-c", &format!("printf '{}' | iptables-restore --noflush", foreign.replace('\n', "\\n"))]);
    ensure!(pod.output(command).await?.status.success(), "the rule of somebody else");
    for save in ["iptables-save", "ip6tables-save"] {
        let before = rules(&pod, &[save, "-t", "nat"]).await?;
        redirect(&pod, &INJECTED).await?;
        let once = rules(&pod, &[save, "-t", "nat"]).await?;
        assert!(once.contains("--to-ports 15006") && once.contains("-A OUTPUT -j ISTIO_OUTPUT\n"), "{once}");
        redirect(&pod, &INJECTED).await?;
        assert_eq!(rules(&pod, &[save, "-t", "nat"]).await?, once);
        // Other rules take the place of the first ones, in all tables.
        redirect(&pod, &["--drop-invalid", "--redirect-dns", "--capture-all-dns", "-b", "80"]).await?;
        assert!(rules(&pod, &[save, "-t", "mangle"]).await?.contains("ISTIO_DROP"));
        redirect(&pod, &INJECTED).await?;
        assert_eq!(rules(&pod, &[save, "-t", "nat"]).await?, once);
        assert!(!rules(&pod, &[save]).await?.contains("ISTIO_DROP"));
        redirect(&pod, &["--clean"]).await?;
        assert_eq!(rules(&pod, &[save, "-t", "nat"]).await?, before);
    }
    Ok(())
}

#[tokio::test]
async fn connections_arrive_at_the_sidecar_and_remember_where_they_were_going() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let mut backends = vec![vec![]];
    if Command::new("nft").arg("--version").output().is_ok() {
        backends.push(vec!["--native-nftables"]);
    }
    for more in backends {
        let network = Network::new()?;
        let (pod, other) = (network.pod()?, network.pod()?);
        redirect(&pod, &[&INJECTED[..], &more].concat()).await?;
        for v6 in [false, true] {
            let at = |pod: &Pod, port: u16| -> SocketAddr {
                let ip: IpAddr = if v6 { pod.ip6.into() } else { pod.ip.into() };
                (ip, port).into()
            };
            let outbound = Heard::start(&pod, v6, 15001).await?;
            let inbound = Heard::start(&pod, v6, 15006).await?;
            let application = Heard::start(&pod, v6, 8080).await?;
            let excluded = Heard::start(&pod, v6, 15021).await?;
            let own: IpAddr = if v6 { "::6".parse()? } else { "127.0.0.6".parse()? };
            let unspecified: IpAddr = if v6 { "::".parse()? } else { "0.0.0.0".parse()? };
            // From outside: any port, but for those that are excluded.
            connect(&other, unspecified, at(&pod, 8080)).await?;
            assert_eq!(inbound.next().await?, Some(at(&pod, 8080)));
            connect(&other, unspecified, at(&pod, 15021)).await?;
            assert_ne!(excluded.next().await?, Some(at(&pod, 8080)));
            // To the outside, to itself, and from the address of the sidecar.
            connect(&pod, unspecified, at(&other, 80)).await?;
            assert_eq!(outbound.next().await?, Some(at(&other, 80)));
            connect(&pod, unspecified, at(&pod, 8080)).await?;
            application.next().await?;
            connect(&pod, own, at(&pod, 8080)).await?;
            application.next().await?;
        }
    }
    Ok(())
}

/// Connects from an address, and lets go.
async fn connect(pod: &Pod, from: IpAddr, to: SocketAddr) -> anyhow::Result<()> {
    pod.run(async move {
        let socket = if to.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.bind((from, 0).into())?;
        tokio::time::timeout(e2e::client::DEADLINE, socket.connect(to))
            .await?
            .with_context(|| format!("{from} to {to}"))?;
        Ok(())
    })
    .await
}

/// A listener, and where those were going who came.
struct Heard(tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<Option<SocketAddr>>>);

impl Heard {
    async fn start(pod: &Pod, v6: bool, port: u16) -> anyhow::Result<Heard> {
        let (send, receive) = tokio::sync::mpsc::unbounded_channel();
        let ip: IpAddr = if v6 { "::".parse()? } else { "0.0.0.0".parse()? };
        pod.run(async move {
            let socket = if v6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
            socket.set_reuseaddr(true)?;
            if v6 {
                SockRef::from(&socket).set_only_v6(true)?;
            }
            socket.bind((ip, port).into())?;
            let listener: TcpListener = socket.listen(8)?;
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    if send.send(original(&stream)).is_err() {
                        return;
                    }
                }
            });
            Ok(())
        })
        .await?;
        Ok(Heard(receive.into()))
    }

    async fn next(&self) -> anyhow::Result<Option<SocketAddr>> {
        let mut receive = self.0.lock().await;
        tokio::time::timeout(e2e::client::DEADLINE, receive.recv()).await?.context("nobody listens any more")
    }
}

fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = socket.original_dst_v6().or_else(|_| socket.original_dst_v4());
    original.ok()?.as_socket()
}

#[test]
fn rows_about_rules_hold() -> anyhow::Result<()> {
    let Some(folder) = third_party::folder() else {
        e2e::say("skipped: there are no third-party cases beside the repository");
        return Ok(());
    };
    let text = std::fs::read_to_string(folder.join("iptables/behaviour.yaml"))?;
    let cases: Vec<Case> = serde_saphyr::from_str(&text)?;
    let (mut hold, mut fail, mut not_built) = (0, Vec::new(), BTreeMap::<String, usize>::new());
    for case in &cases {
        let Some(arguments) = case.arguments() else {
            *not_built.entry(case.id.clone()).or_default() += case.rows.len();
            continue;
        };
        let output = Command::new(process::sidecar()?).args(["redirect", "--dry-run"]).args(arguments).output()?;
        ensure!(output.status.success(), "{}: {}", case.id, String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout)?;
        for row in &case.rows {
            let verdict = redirect::verdict(&printed, row);
            if verdict == row.verdict {
                hold += 1;
            } else {
                fail.push(format!("{}: {} {}: {verdict}, not {}", case.id, row.family, row.probe, row.verdict));
            }
        }
    }
    e2e::say(&format!("rules: {hold} rows hold, {} fail, not built: {not_built:?}", fail.len()));
    assert!(fail.is_empty(), "{}", fail.join("\n"));
    Ok(())
}
