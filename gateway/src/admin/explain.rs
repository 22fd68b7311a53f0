//! `/explain?url=https://a.example/x&method=GET&header=name:value`: what the serving tables would do with a request.
//! `listener=KEY` chooses the listener, where the port of the URL does not. For policies and limits: `source=ADDRESS` is where the
//! connection comes from, `remote=ADDRESS` the client's (the same, if it is not told), `client=NAME` is in its certificate, and
//! `claim=NAME=VALUE` in its token.

use http::StatusCode;
use mesh_core::snapshot::{Question, QuestionError};

use super::Admin;
use super::page::{Answer, Ask, json, text};

pub fn page(admin: &Admin, ask: &Ask) -> Answer {
    let Some(url) = ask.get("url") else {
        return text(StatusCode::BAD_REQUEST, "say which request: /explain?url=http://host/path\n");
    };
    let live = admin.cells.live.load();
    let explained = question(url, ask).and_then(|question| question.ask(&live.snapshot));
    match explained {
        Ok(mut explanation) => {
            let cluster = |key: &str| live.clusters.iter().find(|cluster| *cluster.destination.key == *key);
            explanation.count_endpoints(|key| match cluster(key) {
                Some(cluster) if !cluster.destination.reach.needs_endpoints() => None,
                found => Some(found.map_or(0, |cluster| cluster.endpoints.load().len())),
            });
            explanation
                .note_unready(|key| cluster(key)?.origination.as_ref()?.client().err().map(|error| error.to_string()));
            json(&explanation)
        }
        Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    }
}

/// The tables of a sidecar know what its workload has called: what the question is about is asked for first.
pub async fn complete(admin: &Admin, ask: &Ask) {
    let Some(question) = ask.get("url").and_then(|url| question(url, ask).ok()) else { return };
    let lacks = || question.lacks(&admin.cells.live.load().snapshot);
    if let Some(name) = lacks() {
        admin.cells.demand.ask(&name, || lacks().is_none()).await;
    }
}

fn question(url: &str, ask: &Ask) -> Result<Question, QuestionError> {
    let mut question = Question::new(url)?;
    for line in ask.all("header") {
        question.header(line)?;
    }
    if let Some(method) = ask.get("method") {
        question.method = method.to_owned();
    }
    question.sni = ask.get("sni").map(str::to_owned);
    question.client = ask.get("client").map(str::to_owned);
    question.source = ask.get("source").map(Question::address).transpose()?;
    question.remote = ask.get("remote").map(Question::address).transpose()?;
    ask.all("claim").try_for_each(|line| question.claim(line))?;
    question.listener = ask.get("listener").map(str::to_owned);
    Ok(question)
}
