//! What the tests of this room share: a gate that is configured from a `ResourceSet`, a handler that says what it was
//! given and echoes, and certificates.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::compile::compile;
use mesh_core::model::*;
use mesh_core::object::ObjectRef;
use pingora_core::protocols::{ALPN, Stream};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::live::{Cells, Live};
use crate::tls::certs::CertificateTable;
use crate::tls::provider::provider;

/// Says `worker protocol sni alpn version listener client-family|`, then echoes until the client is done. When it is told
/// to drain, says `drain|` and closes after the next thing that it echoed.
pub struct Echo(pub usize);

impl ConnectionHandler for Echo {
    fn handle(
        self: Arc<Self>,
        mut stream: Stream,
        info: Arc<ConnectionInfo>,
        mut drain: watch::Receiver<bool>,
    ) -> ConnectionFuture {
        Box::pin(async move {
            let protocol = if stream.selected_alpn_proto() == Some(ALPN::H2) { "h2" } else { "h1" };
            let (sni, alpn, version) = info.tls.as_ref().map_or(("-", "-", "-"), |tls| {
                (tls.sni.as_deref().unwrap_or("-"), tls.alpn.unwrap_or("-"), tls.version)
            });
            let family = if info.client.is_ipv4() { "v4" } else { "v6" };
            let hello = format!("{} {protocol} {sni} {alpn} {version} {} {family}|", self.0, info.listener);
            let _ = stream.write_all(hello.as_bytes()).await;
            let mut buffer = [0; 4096];
            let mut told = false;
            loop {
                let _ = stream.flush().await;
                let count = tokio::select! {
                    count = stream.read(&mut buffer) => count.unwrap_or(0),
                    () = async { let _ = drain.wait_for(|drain| *drain).await; }, if !told => {
                        told = true;
                        let _ = stream.write_all(b"drain|").await;
                        continue;
                    }
                };
                let _ = stream.write_all(&buffer[..count]).await;
                if count == 0 || told {
                    break;
                }
            }
            let _ = stream.flush().await;
            let _ = stream.shutdown().await;
        })
    }
}

pub struct Gate {
    pub cells: Arc<Cells>,
    pub manager: ListenerManager,
    pub set: ResourceSet,
}

impl Gate {
    pub fn new(workers: usize, options: ListenOptions) -> Self {
        let cells = Arc::new(Cells::default());
        let workers = Workers::start(workers, |index| Arc::new(Echo(index))).unwrap();
        let manager = ListenerManager::new(Arc::clone(&cells), workers, options).unwrap();
        Self { cells, manager, set: ResourceSet::default() }
    }

    /// With one clear text listener `web` on a free port.
    pub async fn web(workers: usize) -> (Self, SocketAddr) {
        let mut gate = Self::new(workers, ListenOptions::default());
        gate.listen("web", "127.0.0.1:0", http());
        assert!(gate.apply().await.is_empty());
        let address = gate.manager.address("web").unwrap();
        (gate, address)
    }

    /// With one TLS listener `tls` on a free port.
    pub async fn tls(
        options: ListenOptions,
        servers: Vec<TlsServer>,
        secrets: &[(&str, &Issued)],
    ) -> (Self, SocketAddr) {
        let mut gate = Self::new(1, options);
        for (key, issued) in secrets {
            gate.secret(key, issued);
        }
        gate.listen("tls", "127.0.0.1:0", ListenerProtocol::Tls { servers });
        assert!(gate.apply().await.is_empty());
        let address = gate.manager.address("tls").unwrap();
        (gate, address)
    }

    pub fn listen(&mut self, key: &str, address: &str, protocol: ListenerProtocol) {
        let address: ListenAddress = address.parse().unwrap();
        let listener = Listener {
            key: key.into(),
            port: address.port(),
            address,
            protocol,
            path_normalization: PathNormalization::default(),
            origin: origin(),
            server: None,
        };
        self.set.listeners.insert(key.into(), Arc::new(listener));
    }

    pub fn secret(&mut self, key: &str, issued: &Issued) {
        self.set.secrets.insert(key.into(), Arc::new(secret(key, issued)));
    }

    pub async fn certificates(&self) {
        let previous = self.cells.certificates.load_full();
        let (table, _) = CertificateTable::build(&self.set, &HashMap::new(), &previous, SystemTime::now()).await;
        self.cells.certificates.store(Arc::new(table));
    }

    pub fn compile(&self) -> Arc<Live> {
        Arc::new(Live { snapshot: Arc::new(compile(&self.set, None, 1).snapshot), ..Live::default() })
    }

    /// One change, as the store makes it.
    pub async fn apply(&self) -> Vec<ListenError> {
        self.certificates().await;
        let live = self.compile();
        let errors = self.manager.open(&live);
        self.cells.live.store(Arc::clone(&live));
        self.manager.close_removed(&live);
        errors
    }

    pub fn counts(&self, key: &str) -> ListenerCounts {
        self.manager.status().iter().find(|status| &*status.key == key).unwrap().counts
    }
}

pub fn origin() -> ObjectRef {
    ObjectRef::new("Gateway", "default", "gate")
}

pub fn http() -> ListenerProtocol {
    ListenerProtocol::Http { routes: "none".into() }
}

pub fn server(hosts: &[&str], secrets: &[&str]) -> TlsServer {
    let host = |host: &&str| match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact((*host).into()),
    };
    TlsServer {
        hosts: hosts.iter().map(host).collect(),
        serves: Serves::Http,
        tls: TlsTermination {
            certificates: secrets.iter().map(|key| CertificateSource::Secret((*key).into())).collect(),
            ..TlsTermination::default()
        },
        routes: "none".into(),
        origin: origin(),
        server_index: 0,
    }
}

/// A self-signed certificate.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub der: CertificateDer<'static>,
}

pub fn issue(host: &str) -> Issued {
    issue_with(host, &rcgen::PKCS_ECDSA_P256_SHA256)
}

pub fn issue_with(host: &str, algorithm: &'static SignatureAlgorithm) -> Issued {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new([host.to_owned()]).unwrap().self_signed(&key).unwrap();
    Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

pub fn secret(key: &str, issued: &Issued) -> Secret {
    Secret {
        certificate_pem: issued.certificate.clone(),
        private_key_pem: issued.key.clone(),
        ..Secret::new(key.into(), ObjectRef::new("Secret", "default", key))
    }
}

pub fn client(trusted: &[&Issued], alpn: &[&str]) -> ClientConfig {
    client_of(trusted, alpn, &[&rustls::version::TLS13, &rustls::version::TLS12])
}

pub fn client_of(
    trusted: &[&Issued],
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for issued in trusted {
        roots.add(issued.der.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

pub type ClientTls = tokio_rustls::client::TlsStream<TcpStream>;

pub async fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<ClientTls> {
    let io = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, io)).await
}

/// Reads until `|`; what was read when the other side closed first.
pub async fn read_word(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut word = Vec::new();
    soon(async {
        while let Ok(byte) = io.read_u8().await {
            if byte == b'|' {
                break;
            }
            word.push(byte);
        }
    })
    .await;
    String::from_utf8(word).unwrap()
}

pub async fn say(io: &mut (impl AsyncRead + AsyncWrite + Unpin), word: &str) -> String {
    // At once: who closes after what it read does not read it in two.
    io.write_all(format!("{word}|").as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    read_word(io).await
}

/// Fails the test instead of hanging it.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("took too long")
}

/// Waits until something holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub type Words = BTreeMap<&'static str, String>;

/// The handler's first words, by name.
pub fn words(hello: &str) -> Words {
    ["worker", "protocol", "sni", "alpn", "version", "listener", "family"]
        .into_iter()
        .zip(hello.split(' ').map(str::to_owned))
        .collect()
}
