//! No objects of users panic what becomes of them, from their text to the answer to a request; and they mean the same when they come
//! one after the other.
#![no_main]

use std::collections::BTreeMap;

use mesh_core::api;
use mesh_core::compile::compile;
use mesh_core::model::ProxyInfo;
use mesh_core::snapshot::Question;
use mesh_core::translate::{Translator, translate};
use mesh_core::world::World;

const URLS: [&str; 3] = ["http://productpage/productpage?u=jason", "https://a.example/x", "http://10.0.0.1:8080/"];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let objects = api::parse("fuzz.yaml", text, "default").objects;
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let proxy = ProxyInfo::edge("gateway", "default", labels);
    let whole = translate(&World::from_objects(objects.clone()), &proxy);
    let mut world = World::default();
    let mut translator = Translator::new(proxy);
    let mut before = None;
    for object in objects {
        world.apply(vec![object]);
        translator.update(&world);
        before = Some(compile(translator.set(), before.as_ref(), 1).snapshot);
    }
    translator.update(&world);
    assert_eq!(**translator.set(), whole.set);
    let fresh = compile(&whole.set, None, 1).snapshot;
    for question in URLS.into_iter().filter_map(|url| Question::new(url).ok()) {
        let answer = question.ask(&fresh);
        if let Some(before) = &before {
            assert_eq!(format!("{:?}", question.ask(before)), format!("{answer:?}"));
        }
    }
});
