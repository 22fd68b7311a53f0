//! `corsPolicy`: which pages of other origins may use what a rule serves.

use super::Context;
use crate::api::{CorsPolicy, HttpRoute, StringMatch, UnmatchedPreflights, VirtualService};
use crate::model::{self, Cors};
use crate::world::Entry;

impl Context<'_> {
    pub(super) fn cors(&mut self, entry: &Entry<VirtualService>, http: &HttpRoute, field: &str) -> Option<Box<Cors>> {
        let policy = http.cors_policy.as_deref()?;
        let cors = Cors {
            origins: self.origins(entry, policy, field),
            methods: policy.allow_methods.join(","),
            headers: policy.allow_headers.join(","),
            expose: policy.expose_headers.join(","),
            max_age: policy.max_age.map(|age| age.get().as_secs()),
            credentials: policy.allow_credentials == Some(true),
            answer_unmatched: policy.unmatched_preflights == Some(UnmatchedPreflights::Ignore),
        };
        Some(Box::new(cors))
    }

    /// `allowOrigins`, else the deprecated `allowOrigin`. One that cannot be read allows nobody.
    fn origins(&mut self, entry: &Entry<VirtualService>, policy: &CorsPolicy, field: &str) -> Vec<model::StringMatch> {
        if policy.allow_origins.is_empty() {
            return policy.allow_origin.iter().cloned().map(model::StringMatch::Exact).collect();
        }
        let mut origins = Vec::with_capacity(policy.allow_origins.len());
        for (index, origin) in policy.allow_origins.iter().enumerate() {
            match origin {
                StringMatch::Exact(text) => origins.push(model::StringMatch::Exact(text.clone())),
                StringMatch::Prefix(text) => origins.push(model::StringMatch::Prefix(text.clone())),
                StringMatch::Regex(regex) => {
                    let place = format!("{field}.corsPolicy.allowOrigins[{index}].regex");
                    if self.regex_usable(entry, &place, regex) {
                        origins.push(model::StringMatch::Regex(regex.clone()));
                    }
                }
                // `{}` says nothing about an origin.
                StringMatch::Present => {}
            }
        }
        origins
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{docs, forward};
    use crate::model::{Cors, StringMatch};

    fn translate(policy: &str) -> super::super::Translation {
        let http = format!("{{corsPolicy: {{{policy}}}, route: [{{destination: {{host: x}}}}]}}");
        docs().http("'*'").service("default/x", 80).vs("default/v", "a.com", &http).translate_anyway()
    }

    fn cors(policy: &str) -> Cors {
        let translation = translate(policy);
        forward(&translation.rules("a.com")[0]).cors.as_deref().unwrap().clone()
    }

    #[test]
    fn lists_become_values_of_headers() {
        let read = cors(
            "allowOrigins: [{exact: 'https://a'}, {prefix: 'https://b'}, {regex: 'https://c.*'}], \
             allowMethods: [GET, POST], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], maxAge: 2m, \
             allowCredentials: true, unmatchedPreflights: IGNORE",
        );
        assert_eq!(
            read,
            Cors {
                origins: vec![
                    StringMatch::Exact("https://a".into()),
                    StringMatch::Prefix("https://b".into()),
                    StringMatch::Regex("https://c.*".into()),
                ],
                methods: "GET,POST".into(),
                headers: "x-a,x-b".into(),
                expose: "x-c".into(),
                max_age: Some(120),
                credentials: true,
                answer_unmatched: true,
            }
        );
        assert_eq!(cors("allowMethods: [GET]").origins, []);
        assert!(!cors("unmatchedPreflights: FORWARD").answer_unmatched);
    }

    #[test]
    fn the_deprecated_list_counts_where_the_new_one_is_empty() {
        let exact = |text: &str| StringMatch::Exact(text.into());
        assert_eq!(cors("allowOrigin: ['*', 'https://a']").origins, [exact("*"), exact("https://a")]);
        assert_eq!(cors("allowOrigin: ['*'], allowOrigins: [{exact: b}]").origins, [exact("b")]);
    }
}
