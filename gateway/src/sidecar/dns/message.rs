//! Messages of DNS: what a query asks, and what it is answered. The format is the crate's affair; this decides which queries are
//! well-formed enough to be passed on, and how much of an answer fits.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, PushError, TreeCompressor};
use domain::base::name::{Name, ParsedName};
use domain::base::question::Question;
use domain::base::{Message, MessageBuilder, Ttl};
use domain::rdata::{A, Aaaa, Cname};
use mesh_core::snapshot::DnsMatch;

/// How long an answer of ours counts, in seconds; as Istio.
const TTL: Ttl = Ttl::from_secs(30);
/// Largest message over UDP to somebody who does not say how much he takes.
const SMALLEST_LIMIT: u16 = 512;
/// What we say we take: the size that is not fragmented on the way.
const OWN_LIMIT: u16 = 1232;
/// Length of an OPT record without options.
const OPT_LENGTH: usize = 11;

/// What arrived.
#[derive(Debug)]
pub enum Received<'m> {
    /// Nobody waits for an answer to it: it is none itself, or too short for anything.
    Nothing,
    /// The answer.
    Refused(Vec<u8>),
    Query(Query<'m>),
}

/// One question.
#[derive(Debug)]
pub struct Query<'m> {
    message: &'m Message<[u8]>,
    question: Question<ParsedName<&'m [u8]>>,
    /// In lower case, without a dot at its end. None: it has characters that no name of ours has.
    pub name: Option<String>,
    /// Whether an answer is a matter of a name's addresses.
    pub asks_for_address: bool,
}

/// Reads what may come from anybody.
pub fn read(bytes: &[u8]) -> Received<'_> {
    let Ok(message) = Message::from_slice(bytes) else { return Received::Nothing };
    let header = message.header();
    if header.qr() {
        return Received::Nothing;
    }
    if header.opcode() != Opcode::QUERY {
        return Received::Refused(bare(message, Rcode::NOTIMP));
    }
    let Ok(question) = message.sole_question() else {
        return Received::Refused(bare(message, Rcode::FORMERR));
    };
    let asks_for_address = question.qclass() == Class::IN && matches!(question.qtype(), Rtype::A | Rtype::AAAA);
    Received::Query(Query { message, name: text(question.qname()), question, asks_for_address })
}

/// Labels of letters, digits, `-` and `_`, and `*`; a dot inside of a label is none between two.
fn text(name: &ParsedName<&[u8]>) -> Option<String> {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label.as_slice() {
            let fits = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
            text.push(fits.then(|| char::from(byte.to_ascii_lowercase()))?);
        }
    }
    Some(text)
}

impl Query<'_> {
    /// Whether these bytes answer it. Errors may come without the question.
    pub fn is_answered_by(&self, bytes: &[u8]) -> bool {
        Message::from_slice(bytes).is_ok_and(|answer| {
            let header = answer.header();
            let is_error = header.rcode() != Rcode::NOERROR && answer.header_counts().qdcount() == 0;
            answer.is_answer(self.message) || (is_error && header.qr() && header.id() == self.message.header().id())
        })
    }

    /// Most bytes of an answer over UDP.
    pub fn limit(&self) -> usize {
        self.message.opt().map_or(SMALLEST_LIMIT, |opt| opt.udp_payload_size().max(SMALLEST_LIMIT)).into()
    }

    /// The addresses of a name, those that the question is about; the `first` of them comes first. As many as fit: else none,
    /// and the client is told to come by TCP.
    pub fn answer(&self, found: &DnsMatch<'_, '_>, first: usize, limit: usize) -> Vec<u8> {
        self.built(limit, |answer| self.push_addresses(answer, found, first)).unwrap_or_else(|| self.failure())
    }

    fn push_addresses<T: domain::base::wire::Composer>(
        &self,
        answer: &mut AnswerBuilder<T>,
        found: &DnsMatch<'_, '_>,
        first: usize,
    ) -> Result<(), PushError> {
        answer.header_mut().set_aa(true);
        let short = found.without_search.and_then(|short| Name::vec_from_str(short).ok());
        let wanted = |address: &&IpAddr| address.is_ipv6() == (self.question.qtype() == Rtype::AAAA);
        let addresses: Vec<&IpAddr> = found.name.addresses.iter().filter(wanted).collect();
        if let Some(short) = short.as_ref().filter(|_| !addresses.is_empty()) {
            answer.push((self.question.qname(), TTL, Cname::new(short)))?;
        }
        let skip = first.checked_rem(addresses.len()).unwrap_or_default();
        for address in addresses.iter().cycle().skip(skip).take(addresses.len()) {
            match (address, &short) {
                (IpAddr::V4(address), Some(short)) => answer.push((short, TTL, A::new(*address)))?,
                (IpAddr::V4(address), None) => answer.push((self.question.qname(), TTL, A::new(*address)))?,
                (IpAddr::V6(address), Some(short)) => answer.push((short, TTL, Aaaa::new(*address)))?,
                (IpAddr::V6(address), None) => answer.push((self.question.qname(), TTL, Aaaa::new(*address)))?,
            }
        }
        Ok(())
    }

    /// Nobody could be asked, or nobody answered.
    pub fn failure(&self) -> Vec<u8> {
        let failed = self.built(SMALLEST_LIMIT.into(), |answer| {
            answer.header_mut().set_rcode(Rcode::SERVFAIL);
            Ok(())
        });
        failed.unwrap_or_else(|| bare(self.message, Rcode::SERVFAIL))
    }

    /// Header, question, what `fill` pushes, and an OPT record for who sent one. None: not even the question fits.
    fn built(
        &self,
        limit: usize,
        fill: impl FnOnce(&mut AnswerBuilder<TreeCompressor<Vec<u8>>>) -> Result<(), PushError>,
    ) -> Option<Vec<u8>> {
        let has_opt = self.message.opt().is_some();
        let mut builder = MessageBuilder::from_target(TreeCompressor::new(Vec::new())).ok()?;
        builder.set_push_limit(limit.checked_sub(if has_opt { OPT_LENGTH } else { 0 })?);
        let mut answer = builder.start_answer(self.message, Rcode::NOERROR).ok()?;
        answer.header_mut().set_ra(true);
        if fill(&mut answer).is_err() {
            answer = answer.tc_rewind_into();
        }
        let mut additional: AdditionalBuilder<_> = answer.additional();
        if has_opt {
            additional.set_push_limit(limit);
            let opt = additional.opt(|opt| {
                opt.set_udp_payload_size(OWN_LIMIT);
                Ok(())
            });
            opt.ok()?;
        }
        Some(additional.finish().into_target())
    }
}

/// An answer that is only a header.
fn bare(message: &Message<[u8]>, rcode: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let (asked, header) = (message.header(), builder.header_mut());
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_ra(true);
    header.set_rcode(rcode);
    builder.finish()
}

/// What a resolver says of a query: whether another one should be asked.
pub fn is_final(answer: &[u8]) -> bool {
    Message::from_slice(answer).is_ok_and(|answer| matches!(answer.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN))
}

/// Makes of "there is no such name" that the name has nothing of what was asked for: it has addresses, of which the resolver does
/// not know.
pub fn acknowledge_name(mut answer: Vec<u8>) -> Vec<u8> {
    if let Ok(message) = Message::from_octets(answer.as_mut_slice())
        && message.header().rcode() == Rcode::NXDOMAIN
    {
        let mut message = message;
        message.header_mut().set_rcode(Rcode::NOERROR);
    }
    answer
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(super) mod tests;
