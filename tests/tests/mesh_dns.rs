//! A workload whose queries for names are led to its sidecar: real rules, real queries, and a resolver that notes what reaches it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::{A, Aaaa};
use e2e::client::DEADLINE;
use e2e::netns::{self, Pod};
use e2e::sidecar::{Mesh, Who, Workload, echo, saw, server_first, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Where the resolver of the pods is.
const PORT: u16 = 53;
const WORD: Rcode = Rcode::NXDOMAIN;

/// Answers each query with itself, and that there is no such name.
#[derive(Clone, Default)]
struct Resolver(Arc<Mutex<Vec<Vec<u8>>>>);

impl Resolver {
    async fn start(pod: &Pod) -> anyhow::Result<Resolver> {
        let resolver = Resolver::default();
        let (at, by_udp, by_tcp) = (SocketAddr::new(pod.ip(), PORT), resolver.clone(), resolver.clone());
        pod.run(async move {
            let (udp, tcp) = (UdpSocket::bind(at).await?, TcpListener::bind(at).await?);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                    let answer = by_udp.answer(buffer.get(..length).unwrap_or_default());
                    let _ = udp.send_to(&answer, client).await;
                }
            });
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = tcp.accept().await {
                    let Ok(query) = read_message(&mut stream).await else { continue };
                    let _ = write_message(&mut stream, &by_tcp.answer(&query)).await;
                }
            });
            Ok(())
        })
        .await?;
        Ok(resolver)
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(query.to_vec());
        let mut answer = query.to_vec();
        if let Ok(mut message) = Message::from_octets(&mut answer) {
            message.header_mut().set_qr(true);
            message.header_mut().set_rcode(WORD);
        }
        answer
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read_message(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> anyhow::Result<()> {
    let length = u16::try_from(message.len())?;
    Ok(stream.write_all(&[&length.to_be_bytes(), message].concat()).await?)
}

fn query(id: u16, name: &str, rtype: Rtype) -> anyhow::Result<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::vec_from_str(name)?, rtype))?;
    Ok(question.finish())
}

/// A client that asks the resolver that it was given.
struct Client {
    workload: Workload,
    resolver: SocketAddr,
}

impl Client {
    async fn udp(&self, query: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let to = self.resolver;
        let asking = async move {
            let socket = UdpSocket::bind("0.0.0.0:0").await?;
            // Only answers of the resolver arrive.
            socket.connect(to).await?;
            socket.send(&query).await?;
            let mut answer = vec![0; 4096];
            let length = tokio::time::timeout(DEADLINE, socket.recv(&mut answer)).await.context("no answer")??;
            answer.truncate(length);
            Ok(answer)
        };
        self.workload.pod.run(asking).await
    }

    async fn tcp(&self, query: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let to = self.resolver;
        let asking = async move {
            let mut stream = TcpStream::connect(to).await?;
            write_message(&mut stream, &query).await?;
            tokio::time::timeout(DEADLINE, read_message(&mut stream)).await.context("no answer")?
        };
        self.workload.pod.run(asking).await
    }

    async fn addresses(&self, name: &str, rtype: Rtype) -> anyhow::Result<Vec<IpAddr>> {
        addresses(&self.udp(query(1, name, rtype)?).await?)
    }

    /// How many queries the sidecar did not answer by itself.
    async fn passed_on(&self) -> anyhow::Result<u64> {
        let text = self.workload.page(15090, "/stats/prometheus").await?;
        let line = text.lines().find_map(|line| line.strip_prefix("istio_agent_dns_upstream_requests_total "));
        Ok(line.context("it is not counted")?.parse()?)
    }

    /// The only address.
    async fn address(&self, name: &str) -> anyhow::Result<IpAddr> {
        match self.addresses(name, Rtype::A).await?.as_slice() {
            [address] => Ok(*address),
            others => bail!("{name}: {others:?}"),
        }
    }
}

fn addresses(answer: &[u8]) -> anyhow::Result<Vec<IpAddr>> {
    let message = Message::from_slice(answer)?;
    ensure!(message.header().rcode() == Rcode::NOERROR, "{}", message.header().rcode());
    let v4 = message.answer()?.limit_to::<A>().map(|record| Ok(record?.data().addr().into()));
    let v6 = message.answer()?.limit_to::<Aaaa>().map(|record| Ok(record?.data().addr().into()));
    v4.chain(v6).collect()
}

fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\nspec: {{hosts: [{name}.example], {spec}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_the_mesh_knows_leads_to_its_service() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let mesh = Mesh::start().await?;
    let (pod, one, two) = (mesh.network.pod()?, mesh.network.pod()?, mesh.network.pod()?);
    let resolver = Resolver::start(&pod).await?;
    let workload = mesh.workload_of(&Who { resolver: Some(pod.ip()), ..Who::named("client") }).await?;
    let client = Client { workload, resolver: SocketAddr::new(pod.ip(), PORT) };
    let databases =
        [server_first(&one, (one.ip(), 5432).into()).await?, server_first(&two, (two.ip(), 15432).into()).await?];
    let _web = echo(&one, 8080, "web").await?;
    let bytes = "ports: [{number: 5432, name: tcp, protocol: TCP";
    let of = |name: &str, pod: &Pod, more: &str| {
        entry(name, &format!("resolution: STATIC, endpoints: [{{address: {}}}], {bytes}{more}}}]", pod.ip))
    };
    let http = format!(
        "resolution: DNS, endpoints: [{{address: {}}}], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]",
        one.ip
    );
    let fixed = format!(
        "addresses: [10.9.9.8, 10.9.9.9], resolution: STATIC, endpoints: [{{address: {}}}], {bytes}}}]",
        one.ip
    );
    let all =
        [of("one", &one, ""), of("two", &two, ", targetPort: 15432"), entry("web", &http), entry("fixed", &fixed)];
    mesh.apply_until(&all.concat(), || async { client.address("one.example").await.map(|_| ()) }).await?;

    // Two of them on one port: each name leads to its own.
    let (first, second) = (client.address("one.example").await?, client.address("TWO.example").await?);
    assert_ne!(first, second);
    for (name, address) in [("one", first), ("two", second)] {
        assert!(address.to_string().starts_with("240.240."), "{name}: {address}");
        assert_eq!(client.workload.converse((address, 5432).into(), "you").await?, "hello you", "{name}");
    }
    drop(databases);
    let web = client.address("web.example").await?;
    let answer = client.workload.get((web, 80).into(), "web.example", "/a").await?;
    assert_eq!((answer.status, &*saw(&answer)?.backend), (200, "web"));
    let of_v6 = client.addresses("web.example", Rtype::AAAA).await?;
    assert!(of_v6.len() == 1 && of_v6.iter().all(|address| address.to_string().starts_with("2001:2::")), "{of_v6:?}");
    let mut fixed = client.addresses("fixed.example", Rtype::A).await?;
    fixed.sort();
    assert_eq!(fixed, ["10.9.9.8".parse::<IpAddr>()?, "10.9.9.9".parse()?]);
    assert!(client.addresses("fixed.example", Rtype::AAAA).await?.is_empty());
    assert_eq!(addresses(&client.tcp(query(7, "one.example", Rtype::A)?).await?)?, [first]);

    // What it does not know, it asks as it was asked, over the same protocol.
    resolver.heard();
    let before = client.passed_on().await?;
    let asked = query(0x1234, "kubernetes.default.svc.cluster.local", Rtype::A)?;
    for answer in [client.udp(asked.clone()).await?, client.tcp(asked.clone()).await?] {
        let message = Message::from_slice(&answer)?;
        assert_eq!((message.header().id(), message.header().rcode()), (0x1234, WORD));
        assert_eq!(answer.get(4..), asked.get(4..));
    }
    assert_eq!(resolver.heard(), [asked.clone(), asked]);
    assert_eq!(client.passed_on().await?, before + 2);
    let dump = client.workload.page(15000, "/config_dump?resource=dns").await?;
    assert!(dump.contains("one.example") && dump.contains(&first.to_string()), "{dump}");

    // A name that goes is asked for like any other.
    mesh.control.delete(&of("two", &two, "")).await?;
    until(|| async {
        let answer = client.udp(query(9, "two.example", Rtype::A)?).await?;
        ensure!(Message::from_slice(&answer)?.header().rcode() == WORD, "it is still known");
        Ok(())
    })
    .await?;
    assert_eq!(client.address("one.example").await?, first);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_those_who_did_not_ask_for_it_are_left_alone() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let mesh = Mesh::start().await?;
    let pod = mesh.network.pod()?;
    let resolver = Resolver::start(&pod).await?;
    let client = Client { workload: mesh.workload("client").await?, resolver: SocketAddr::new(pod.ip(), PORT) };
    let asked = query(3, "one.example", Rtype::A)?;
    let answer = client.udp(asked.clone()).await?;
    assert_eq!(Message::from_slice(&answer)?.header().rcode(), WORD);
    assert_eq!(resolver.heard(), [asked]);
    Ok(())
}
