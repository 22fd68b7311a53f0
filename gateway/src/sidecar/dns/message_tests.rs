use domain::base::iana::OptRcode;
use domain::rdata::AllRecordData;
use mesh_core::model::DnsName;
use mesh_core::object::ObjectRef;
use proptest::prelude::*;

use super::*;

/// A query; `size`: with an OPT record.
pub fn query(id: u16, name: &str, rtype: Rtype, size: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
    let mut additional = question.additional();
    if let Some(size) = size {
        additional
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                Ok(())
            })
            .unwrap();
    }
    additional.finish()
}

/// Header flags and records, as a person reads them.
pub fn show(answer: &[u8]) -> String {
    let message = Message::from_slice(answer).unwrap();
    let header = message.header();
    let mut shown = vec![header.id().to_string(), header.rcode().to_string()];
    let flags =
        [("qr", header.qr()), ("aa", header.aa()), ("tc", header.tc()), ("rd", header.rd()), ("ra", header.ra())];
    shown.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()));
    for record in message.answer().unwrap() {
        let record = record.unwrap().into_any_record::<AllRecordData<_, _>>().unwrap();
        shown.push(format!("{}/{}/{}", record.owner(), record.ttl().as_secs(), record.data()));
    }
    if let Some(opt) = message.opt() {
        shown.push(format!("opt={}", opt.udp_payload_size()));
        assert_eq!(opt.rcode(header), OptRcode::from(header.rcode()));
    }
    shown.join(" ")
}

fn known(addresses: &[&str]) -> DnsName {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    DnsName { key: "db.example".into(), addresses, origin: ObjectRef::new("ServiceEntry", "default", "db") }
}

fn read_query(bytes: &[u8]) -> Query<'_> {
    match read(bytes) {
        Received::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

fn answered(bytes: &[u8], name: &DnsName, without_search: Option<&str>) -> String {
    let query = read_query(bytes);
    show(&query.answer(&DnsMatch { name, without_search }, 0, query.limit()))
}

#[test]
fn addresses_of_the_family_that_was_asked_for_are_answered() {
    let name = known(&["240.240.0.1", "10.0.0.2", "2001:2::1"]);
    assert_eq!(
        answered(&query(7, "dB.Example", Rtype::A, None), &name, None),
        "7 NOERROR qr aa rd ra dB.Example/30/240.240.0.1 dB.Example/30/10.0.0.2"
    );
    assert_eq!(
        answered(&query(8, "db.example.", Rtype::AAAA, Some(4096)), &name, None),
        "8 NOERROR qr aa rd ra db.example/30/2001:2::1 opt=1232"
    );
    // The name is there; it just has none of these.
    assert_eq!(
        answered(&query(9, "db.example", Rtype::AAAA, None), &known(&["10.0.0.1"]), None),
        "9 NOERROR qr aa rd ra"
    );
}

#[test]
fn a_name_with_a_search_domain_is_an_alias_of_the_name() {
    let asked = query(7, "db.example.default.svc.cluster.local", Rtype::A, None);
    assert_eq!(
        answered(&asked, &known(&["240.240.0.1"]), Some("db.example")),
        "7 NOERROR qr aa rd ra db.example.default.svc.cluster.local/30/db.example. db.example/30/240.240.0.1"
    );
}

#[test]
fn another_address_comes_first_each_time() {
    let name = known(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let bytes = query(1, "db.example", Rtype::A, None);
    let first = |first| {
        let shown = show(&read_query(&bytes).answer(&DnsMatch { name: &name, without_search: None }, first, 512));
        shown.split_whitespace().nth(6).unwrap().to_owned()
    };
    assert_eq!(first(1), "db.example/30/10.0.0.2");
    assert_eq!(first(usize::MAX), format!("db.example/30/10.0.0.{}", usize::MAX % 3 + 1));
}

#[test]
fn what_does_not_fit_is_to_be_asked_for_by_tcp() {
    let addresses: Vec<String> = (0..60).map(|n| format!("10.0.0.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let name = known(&addresses);
    assert_eq!(answered(&query(1, "db.example", Rtype::A, None), &name, None), "1 NOERROR qr aa tc rd ra");
    assert_eq!(
        answered(&query(1, "db.example", Rtype::A, Some(100)), &name, None),
        "1 NOERROR qr aa tc rd ra opt=1232"
    );
    let large = query(1, "db.example", Rtype::A, Some(4096));
    let answer = read_query(&large).answer(&DnsMatch { name: &name, without_search: None }, 0, 4096);
    assert_eq!(Message::from_slice(&answer).unwrap().header_counts().ancount(), 60);
    // The name is written once, and pointed at.
    assert!(answer.len() < 60 * 17 + 60, "{}", answer.len());
}

#[test]
fn failures_say_what_failed() {
    let bytes = query(3, "db.example", Rtype::MX, Some(1400));
    let asked = read_query(&bytes);
    assert!(!asked.asks_for_address);
    assert_eq!(show(&asked.failure()), "3 SERVFAIL qr rd ra opt=1232");
}

#[test]
fn only_one_question_is_a_query() {
    let refused = |bytes: &[u8]| match read(bytes) {
        Received::Refused(answer) => show(&answer),
        other => panic!("{other:?}"),
    };
    let mut bytes = query(5, "db.example", Rtype::A, None);
    bytes[5] = 2;
    assert_eq!(refused(&bytes), "5 FORMERR qr rd ra");
    bytes[5] = 0;
    assert_eq!(refused(&bytes), "5 FORMERR qr rd ra");
    bytes[5] = 1;
    bytes[2] |= 5 << 3;
    assert_eq!(refused(&bytes), "5 NOTIMP qr rd ra");
    // Cut off in the middle of the name, and a name that points at itself, at what is behind it, and on and on.
    assert_eq!(refused(&query(5, "db.example", Rtype::A, None)[..18]), "5 FORMERR qr rd ra");
    for pointer in [[0xc0, 12], [0xc0, 14], [0xc0, 200]] {
        let mut bytes = query(5, ".", Rtype::A, None)[..12].to_vec();
        bytes.extend([pointer[0], pointer[1], 0, 1, 0, 1]);
        assert_eq!(refused(&bytes), "5 FORMERR qr rd ra", "{pointer:?}");
    }
    // An answer is no query: to answer it would go on for ever.
    let mut response = query(5, "db.example", Rtype::A, None);
    response[2] |= 0x80;
    assert!(matches!(read(&response), Received::Nothing));
    assert!(matches!(read(&response[..11]), Received::Nothing));
}

#[test]
fn names_that_nobody_of_ours_has_are_somebody_elses() {
    let name = |labels: &[&[u8]]| {
        let mut bytes = query(5, ".", Rtype::A, None)[..12].to_vec();
        for label in labels {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(*label);
        }
        bytes.extend([0, 0, 1, 0, 1]);
        read_query(&bytes).name
    };
    assert_eq!(name(&[b"DB", b"example"]).as_deref(), Some("db.example"));
    assert_eq!(name(&[b"_a-1", b"*"]).as_deref(), Some("_a-1.*"));
    assert_eq!(name(&[]).as_deref(), Some(""));
    assert_eq!(name(&[b"db.example"]), None);
    assert_eq!(name(&[b"db\0", b"example"]), None);
}

#[test]
fn an_answer_is_to_the_question() {
    let bytes = query(5, "db.example", Rtype::A, None);
    let asked = read_query(&bytes);
    let mut answer = asked.failure();
    assert!(asked.is_answered_by(&answer));
    assert!(!asked.is_answered_by(&bytes), "the query itself");
    answer[1] = 6;
    assert!(!asked.is_answered_by(&answer), "another id");
    let other = query(5, "other.example", Rtype::A, None);
    assert!(!asked.is_answered_by(&read_query(&other).failure()), "another name");
    assert!(asked.is_answered_by(&bare(asked.message, Rcode::REFUSED)), "an error without the question");
    assert!(!asked.is_answered_by(&bare(asked.message, Rcode::NOERROR)));
}

#[test]
fn a_known_name_has_nothing_rather_than_not_being_there() {
    let bytes = query(5, "db.example", Rtype::MX, None);
    let asked = read_query(&bytes);
    let of = |rcode: Rcode| {
        let failed = asked.built(512, |answer| {
            answer.header_mut().set_rcode(rcode);
            Ok(())
        });
        show(&acknowledge_name(failed.unwrap()))
    };
    assert_eq!(of(Rcode::NXDOMAIN), "5 NOERROR qr rd ra");
    assert_eq!(of(Rcode::SERVFAIL), "5 SERVFAIL qr rd ra");
    assert_eq!(acknowledge_name(vec![1]), [1]);
}

proptest! {
    /// Whatever comes, it is answered, passed on or ignored.
    #[test]
    fn nothing_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 0_usize..80, flip in 0_usize..80) {
        let mut near = query(5, "a.very.long.name.db.example", Rtype::AAAA, Some(1232));
        if let Some(byte) = near.get_mut(flip) {
            *byte ^= 0x5a;
        }
        near.truncate(near.len().saturating_sub(cut));
        for bytes in [&bytes, &near] {
            match read(bytes) {
                Received::Nothing => {}
                Received::Refused(answer) => prop_assert_eq!(&answer[..2], &bytes[..2]),
                Received::Query(asked) => {
                    let name = known(&["10.0.0.1", "2001:2::1"]);
                    for without_search in [None, Some("db.example")] {
                        let answer = asked.answer(&DnsMatch { name: &name, without_search }, 1, asked.limit());
                        prop_assert!(answer.len() <= asked.limit());
                        prop_assert!(asked.is_answered_by(&answer) || Message::from_slice(&answer).unwrap().header().rcode() == Rcode::SERVFAIL);
                    }
                }
            }
        }
        acknowledge_name(bytes);
    }
}
