//! The PROXY header with which a connection to a backend begins, read by the text of its specification alone: what the proxy writes is
//! not believed to be right because the proxy can read it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// `V1 203.0.113.7:56324 198.51.100.1:80`: who the client is and where it went, in either version; `V2 local` and `V1 unknown` where
/// nobody is spoken for.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<String> {
    let mut start = [0; 12];
    io.read_exact(&mut start).await?;
    if &start == SIGNATURE {
        return version_2(io).await;
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        ensure!(line.len() < 107, "the line does not end");
        line.push(io.read_u8().await?);
    }
    let line = String::from_utf8(line)?;
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok("V1 unknown".to_owned()),
        ["PROXY", "TCP4" | "TCP6", client, server, from, to] => {
            let end = |ip: &str, port: &str| anyhow::Ok(SocketAddr::new(ip.parse()?, port.parse()?));
            Ok(format!("V1 {} {}", end(client, from)?, end(server, to)?))
        }
        _ => bail!("`{line}` is no PROXY header"),
    }
}

async fn version_2(io: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<String> {
    let (command, family) = (io.read_u8().await?, io.read_u8().await?);
    let mut body = vec![0; usize::from(io.read_u16().await?)];
    io.read_exact(&mut body).await?;
    let body = &mut body.as_slice();
    let (client, server): (IpAddr, IpAddr) = match (command, family) {
        (0x20, _) => return Ok("V2 local".to_owned()),
        (0x21, 0x11) => (Ipv4Addr::from(body.read_u32().await?).into(), Ipv4Addr::from(body.read_u32().await?).into()),
        (0x21, 0x21) => {
            (Ipv6Addr::from(body.read_u128().await?).into(), Ipv6Addr::from(body.read_u128().await?).into())
        }
        _ => bail!("command {command:#x}, family {family:#x}"),
    };
    let (from, to) = (body.read_u16().await.context("no port")?, body.read_u16().await.context("no port")?);
    Ok(format!("V2 {} {}", SocketAddr::new(client, from), SocketAddr::new(server, to)))
}
