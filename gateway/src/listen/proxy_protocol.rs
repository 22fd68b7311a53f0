//! Reads the PROXY header (versions 1 and 2, proxy-protocol.txt of HAProxy) that a load balancer says before a client's own bytes,
//! and not a byte more. Whom to believe is decided elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Section 2.2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Of a header of version 2, before its addresses.
const FIXED: usize = 16;
/// `PROXY UNKNOWN` with its end of line is the shortest header of all.
const SHORTEST: usize = 15;
/// Of version 1, with its end of line (section 2.1).
const LONGEST_LINE: usize = 107;
/// Of version 2: addresses and extensions. A load balancer adds some hundred bytes.
const LONGEST_BODY: usize = 4096;

/// Ends of the connection that the header tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    /// Where the client went.
    pub server: SocketAddr,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why there is no header.
#[derive(Debug)]
pub enum ReadError {
    /// Not a byte came.
    Left,
    Io(std::io::Error),
    Malformed(Malformed),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl From<Malformed> for ReadError {
    fn from(malformed: Malformed) -> ReadError {
        ReadError::Malformed(malformed)
    }
}

/// Takes a header from the front of the stream. None: it does not say who the client is, as that of a load balancer's health check.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<Ends>, ReadError> {
    let mut start = [0; FIXED];
    let (shortest, last) = start.split_at_mut(SHORTEST);
    let mut filled = 0;
    while let Some(room) = shortest.get_mut(filled..).filter(|room| !room.is_empty()) {
        match io.read(room).await? {
            0 if filled == 0 => return Err(ReadError::Left),
            0 => return Err(Malformed("the connection ended within the header").into()),
            count => filled += count,
        }
        // Who says something else need not say more of it.
        let said = shortest.get(..filled).unwrap_or_default();
        if !begins_alike(said, &SIGNATURE) && !begins_alike(said, PREFIX.as_bytes()) {
            return Err(Malformed("there is no PROXY header").into());
        }
    }
    if shortest.starts_with(PREFIX.as_bytes()) {
        let mut line = Vec::with_capacity(LONGEST_LINE);
        line.extend_from_slice(shortest);
        while line.last() != Some(&b'\n') {
            if line.len() == LONGEST_LINE {
                return Err(Malformed("the line is longer than 107 bytes").into());
            }
            // One by one: what follows is the client's. They are in the socket's buffer already.
            line.push(io.read_u8().await?);
        }
        return Ok(version_1(&line)?);
    }
    io.read_exact(last).await?;
    let length = body_length(&start)?;
    let mut body = vec![0; length];
    io.read_exact(&mut body).await?;
    Ok(version_2(&start, &body)?)
}

const PREFIX: &str = "PROXY ";

/// As far as both go.
fn begins_alike(said: &[u8], whole: &[u8]) -> bool {
    let count = said.len().min(whole.len());
    said.get(..count) == whole.get(..count)
}

/// The line of version 1 with its end.
pub fn version_1(line: &[u8]) -> Result<Option<Ends>, Malformed> {
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed("the line does not end with CR LF"))?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed("the line is not ASCII"))?;
    let mut words = line.strip_prefix(PREFIX).ok_or(Malformed("there is no PROXY header"))?.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let mut word = || words.next().ok_or(Malformed("an address or a port is missing"));
    let (client, server, from, to) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed("something follows the ports"));
    }
    let (client, server) = match family {
        "TCP4" => (IpAddr::V4(address(client)?), IpAddr::V4(address(server)?)),
        "TCP6" => (IpAddr::V6(address(client)?), IpAddr::V6(address(server)?)),
        _ => return Err(Malformed("the family is none of TCP4, TCP6, UNKNOWN")),
    };
    Ok(Some(ends((client, port(from)?), (server, port(to)?))))
}

fn address<A: FromStr>(text: &str) -> Result<A, Malformed> {
    text.parse().map_err(|_| Malformed("an address cannot be read, or is of another family"))
}

/// Digits only, none too many.
fn port(text: &str) -> Result<u16, Malformed> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(Malformed("a port cannot be read"))
}

/// Of version 2.
pub fn body_length(start: &[u8; FIXED]) -> Result<usize, Malformed> {
    let [.., high, low] = *start;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_BODY { Err(Malformed("the header is longer than 4096 bytes")) } else { Ok(length) }
}

/// The beginning of version 2, and what follows it.
pub fn version_2(start: &[u8; FIXED], body: &[u8]) -> Result<Option<Ends>, Malformed> {
    let Some(([command, family], _)) = start.strip_prefix(&SIGNATURE).and_then(|rest| rest.split_first_chunk()) else {
        return Err(Malformed("there is no PROXY header"));
    };
    match command {
        // LOCAL: whoever stands in front speaks for himself.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Malformed("neither version nor command are known")),
    }
    // Extensions follow the addresses.
    match family {
        0x11 => {
            let (&[a, b, c, d, e, f, g, h], ports) = body.split_first_chunk().ok_or(SHORT)?;
            let (client, server) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
            Ok(Some(with_ports(client.into(), server.into(), ports)?))
        }
        0x21 => {
            let (client, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
            let (server, ports) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            Ok(Some(with_ports(Ipv6Addr::from(*client).into(), Ipv6Addr::from(*server).into(), ports)?))
        }
        // Unspecified, datagrams, Unix sockets: nothing that is known of here.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Ok(None),
        _ => Err(Malformed("the family is not known")),
    }
}

const SHORT: Malformed = Malformed("the addresses are cut");

fn with_ports(client: IpAddr, server: IpAddr, ports: &[u8]) -> Result<Ends, Malformed> {
    let (&[a, b, c, d], _) = ports.split_first_chunk().ok_or(SHORT)?;
    Ok(ends((client, u16::from_be_bytes([a, b])), (server, u16::from_be_bytes([c, d]))))
}

/// IPv4 addresses are written as such.
fn ends(client: (IpAddr, u16), server: (IpAddr, u16)) -> Ends {
    let socket = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    Ends { client: socket(client), server: socket(server) }
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
