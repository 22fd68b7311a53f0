//! Metadata on connections that are not HTTP: each side sends a preamble before its first bytes, where both agreed to it in the
//! handshake ([`PROTOCOL`]), and takes the other one's out of what it reads. As Istio's proxies do: a magic number, a length,
//! then a `google.protobuf.Any` with a `Struct` in which the names are those of the headers. Nobody waits with his own for the
//! other one's, of which some proxies send theirs only with their first bytes, or when they got some.

use std::io;
use std::sync::{Arc, LazyLock};

use mesh_core::model::Workload;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Kind, METADATA, METADATA_ID, OwnMetadata, Struct, is_of, shared, workload};
use crate::tls::peer_verify::Identity;

/// What is agreed on in ALPN.
pub const PROTOCOL: &[u8] = NAME.as_bytes();
/// The same as text.
pub const NAME: &str = "istio-peer-exchange";

const MAGIC: [u8; 4] = 0x3D23_0467_u32.to_be_bytes();
/// Magic number and length, both with the most significant byte first.
const HEADER: usize = 8;
/// In bytes. Proxies of Istio say all labels of their pods, or a few of them.
const LONGEST: usize = 16 * 1024;
const TYPE: &str = "type.googleapis.com/google.protobuf.Struct";

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Of a proxy that says nothing about itself.
static NOTHING: LazyLock<Vec<u8>> = LazyLock::new(|| frame(&Struct::default()));

fn frame(said: &Struct) -> Vec<u8> {
    let any = Any { type_url: TYPE.to_owned(), value: said.encode_to_vec() }.encode_to_vec();
    // A few hundred bytes.
    let length = u32::try_from(any.len()).unwrap_or_default();
    [&MAGIC[..], &length.to_be_bytes(), &any].concat()
}

/// What a proxy says of itself.
pub(super) fn of(id: &str, metadata: Struct) -> Vec<u8> {
    frame(&Struct::of([(METADATA.as_str(), Kind::Struct(metadata)), (METADATA_ID.as_str(), Kind::Text(id.to_owned()))]))
}

/// The bytes to send.
#[must_use]
pub fn bytes(own: Option<&OwnMetadata>) -> &[u8] {
    own.map_or(&NOTHING, |own| &own.preamble)
}

/// The other side's, as far as it has come.
#[derive(Default)]
pub struct Preamble(Vec<u8>);

/// See [`Preamble`].
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// None: it says nothing, or not what it should.
    pub workload: Option<Arc<Workload>>,
    /// What came behind it; everything, if it was none.
    pub rest: Vec<u8>,
}

/// It says that it is longer than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's metadata is longer than {LONGEST} bytes")]
pub struct TooLong;

impl Preamble {
    /// None: there is more of it to come. `peer`: who says it.
    pub fn add(&mut self, bytes: &[u8], peer: Option<&Identity>) -> Result<Option<Heard>, TooLong> {
        self.0.extend_from_slice(bytes);
        let magic = self.0.get(..self.0.len().min(MAGIC.len())).unwrap_or_default();
        if !MAGIC.starts_with(magic) {
            return Ok(Some(Heard { workload: None, rest: std::mem::take(&mut self.0) }));
        }
        let Some(length) = self.0.get(MAGIC.len()..HEADER).and_then(|bytes| bytes.try_into().ok()) else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(TooLong);
        }
        let Some((whole, rest)) = self.0.split_at_checked(HEADER + length) else { return Ok(None) };
        let said = read(whole.get(HEADER..).unwrap_or_default());
        let workload = said.zip(peer).filter(|(said, peer)| is_of(said, peer)).map(|(said, _)| shared(said));
        let rest = rest.to_vec();
        self.0 = Vec::new();
        Ok(Some(Heard { workload, rest }))
    }
}

fn read(bytes: &[u8]) -> Option<Workload> {
    let any = Any::decode(bytes).ok().filter(|any| any.type_url == TYPE)?;
    let said = Struct::decode(any.value.as_slice()).ok()?;
    match said.fields.get(METADATA.as_str())?.kind.as_ref()? {
        Kind::Struct(metadata) => workload(metadata),
        Kind::Text(_) => None,
    }
}

/// Sends ours and waits for the other one. The caller limits the time.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    own: Option<&OwnMetadata>,
    peer: Option<&Identity>,
) -> io::Result<Heard> {
    io.write_all(bytes(own)).await?;
    io.flush().await?;
    let mut preamble = Preamble::default();
    let mut buffer = [0; 2048];
    loop {
        let count = io.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = buffer.get(..count).unwrap_or_default();
        let heard = preamble.add(read, peer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(heard) = heard {
            return Ok(heard);
        }
    }
}

#[cfg(test)]
#[path = "preamble_tests.rs"]
mod tests;
