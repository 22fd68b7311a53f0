//! Requests of the proxy: what it asks for, in as many messages as it takes.

use std::collections::HashMap;

use prost::Message as _;

use super::proto::DeltaDiscoveryRequest;
use super::{ASKED, Kind, MAX_REQUEST};
use crate::model::Key;

/// A request with names is not made larger than this, in bytes.
pub(super) const REQUEST_PART: usize = MAX_REQUEST / 2;

/// Asks for a name, and gives one up.
pub(super) fn ask(name: &Key, given_up: Option<&Key>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: Kind::Config.type_url().to_owned(),
        resource_names_subscribe: vec![format!("{ASKED}{name}")],
        resource_names_unsubscribe: given_up.iter().map(|name| format!("{ASKED}{name}")).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// Names to subscribe to, and to unsubscribe from.
#[derive(Default)]
pub(super) struct Wanted {
    pub news: Vec<Key>,
    pub gone: Vec<Key>,
}

/// As many requests as it takes. Each says what the proxy has of the names in it.
pub(super) fn requests_for(
    kind: Kind,
    wanted: &Wanted,
    had: Option<&HashMap<String, String>>,
) -> Vec<DeltaDiscoveryRequest> {
    let mut requests: Vec<DeltaDiscoveryRequest> = Vec::new();
    let mut size = REQUEST_PART;
    let news = wanted.news.iter().map(|name| (name, true));
    for (name, is_new) in news.chain(wanted.gone.iter().map(|name| (name, false))) {
        let version = had.filter(|_| is_new).and_then(|had| had.get(&**name));
        let own =
            string_len(name) + version.map_or(0, |version| string_len("") + string_len(name) + string_len(version));
        size += own;
        if size > REQUEST_PART {
            let type_url = kind.type_url().to_owned();
            requests.push(DeltaDiscoveryRequest { type_url, ..DeltaDiscoveryRequest::default() });
            size = own;
        }
        let Some(request) = requests.last_mut() else { continue };
        let name = (**name).to_owned();
        if let Some(version) = version {
            request.initial_resource_versions.insert(name.clone(), version.clone());
        }
        match is_new {
            true => request.resource_names_subscribe.push(name),
            false => request.resource_names_unsubscribe.push(name),
        }
    }
    requests
}

/// Encoded, at most: with the field's number and the length in front.
pub(super) fn string_len(text: &str) -> usize {
    text.len() + 6
}

/// Leaves the versions out where they would make the request too large; everything is sent again then. Whether it did.
pub(super) fn shorten(request: &mut DeltaDiscoveryRequest) -> bool {
    let too_large = request.encoded_len() > MAX_REQUEST;
    if too_large {
        request.initial_resource_versions.clear();
    }
    too_large
}
