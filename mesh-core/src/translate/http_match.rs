//! Conditions of a rule: one `HTTPMatchRequest` becomes one predicate. What cannot hold (a regular expression that cannot be
//! read, a condition that is not built yet) makes the rule never match, rather than match without it.

use std::collections::{BTreeMap, HashMap};

use super::Context;
use crate::api::{HttpMatch, StringMatch, VirtualService};
use crate::attribute::Attribute;
use crate::diag;
use crate::model::{self, ClaimMatch, HeaderMatch, PathMatch, Predicate, QueryMatch};
use crate::re2;
use crate::world::Entry;

/// As long as an expression may be (Istio's limit).
const LENGTH_LIMIT: usize = 1024;

/// Expressions that are remembered.
const REMEMBERED: usize = 10_000;

/// The rule is left out.
#[derive(Debug)]
pub(super) struct NeverMatches;

/// Regular expressions that were looked at, with what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Patterns(HashMap<String, Option<String>>);

impl Patterns {
    fn error(&mut self, regex: &str) -> Option<String> {
        if let Some(known) = self.0.get(regex) {
            return known.clone();
        }
        let error = if regex.len() > LENGTH_LIMIT {
            Some(format!("it is longer than {LENGTH_LIMIT} bytes"))
        } else {
            re2::parse(regex).err()
        };
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(regex.to_owned(), error.clone());
        error
    }
}

impl Context<'_> {
    pub(super) fn predicate(
        &mut self,
        entry: &Entry<VirtualService>,
        condition: &HttpMatch,
        field: &str,
    ) -> Result<Predicate, NeverMatches> {
        let mut strings = Strings { context: self, entry, field, broken: false };
        let (headers, claims) = strings.headers(condition);
        let predicate = Predicate {
            path: strings.path(condition),
            method: strings.optional("method", condition.method.as_ref()),
            scheme: strings.optional("scheme", condition.scheme.as_ref()),
            authority: strings.optional("authority", condition.authority.as_ref()),
            headers,
            query: strings.query(&condition.query_params),
            claims,
        };
        if strings.broken { Err(NeverMatches) } else { Ok(predicate) }
    }

    /// Whether the expression can be used; says so if not.
    pub(super) fn regex_usable(&mut self, entry: &Entry<VirtualService>, field: &str, regex: &str) -> bool {
        let Some(error) = self.patterns.error(regex) else { return true };
        let message = format!("`{regex}`: {error}");
        let help = "RE2 syntax is understood, which has no look-around and no back-references".to_owned();
        self.findings.report(diag::REGEX_INVALID, entry, field, message, Some(help));
        false
    }
}

struct Strings<'c, 'a, 'e> {
    context: &'c mut Context<'a>,
    entry: &'e Entry<VirtualService>,
    field: &'e str,
    broken: bool,
}

impl Strings<'_, '_, '_> {
    fn path(&mut self, condition: &HttpMatch) -> PathMatch {
        let ignore_case = condition.ignore_uri_case == Some(true);
        match condition.uri.as_ref() {
            None | Some(StringMatch::Present) => PathMatch::Any,
            Some(StringMatch::Exact(value)) => PathMatch::Exact { value: value.clone(), ignore_case },
            Some(StringMatch::Prefix(value)) => PathMatch::Prefix { value: value.clone(), ignore_case },
            Some(StringMatch::Regex(regex)) => {
                self.regex("uri", regex);
                PathMatch::Regex(regex.clone())
            }
        }
    }

    /// `{}` asks for nothing where the value is always there.
    fn optional(&mut self, name: &str, value: Option<&StringMatch>) -> Option<model::StringMatch> {
        match value? {
            StringMatch::Present => None,
            value => Some(self.string(name, value)),
        }
    }

    fn string(&mut self, name: &str, value: &StringMatch) -> model::StringMatch {
        match value {
            StringMatch::Exact(value) => model::StringMatch::Exact(value.clone()),
            StringMatch::Prefix(value) => model::StringMatch::Prefix(value.clone()),
            StringMatch::Present => model::StringMatch::Present,
            StringMatch::Regex(regex) => {
                self.regex(name, regex);
                model::StringMatch::Regex(regex.clone())
            }
        }
    }

    fn headers(&mut self, condition: &HttpMatch) -> (Vec<HeaderMatch>, Vec<ClaimMatch>) {
        let mut headers = Vec::with_capacity(condition.headers.len() + condition.without_headers.len());
        let mut claims = Vec::new();
        let with = condition.headers.iter().map(|(name, value)| ("headers", name, value, false));
        let without = condition.without_headers.iter().map(|(name, value)| ("withoutHeaders", name, value, true));
        for (place, name, value, invert) in with.chain(without) {
            let value = match value {
                // `*` is no regular expression, but here it is an old way to write "not present".
                StringMatch::Regex(regex) if regex == "*" && invert => model::StringMatch::Present,
                value => self.string(&format!("{place}.{name}"), value),
            };
            match self.claim(place, name) {
                None => headers.push(HeaderMatch { name: name.to_ascii_lowercase(), value, invert }),
                Some(claim) => claims.push(ClaimMatch { claim, value, invert }),
            }
        }
        (headers, claims)
    }

    /// The claim that stands for a header; none: it is a header.
    fn claim(&mut self, place: &str, name: &str) -> Option<Vec<String>> {
        match Attribute::of_route_header(name)? {
            Ok(Attribute::Claim(names)) => Some(names),
            Ok(_) => None,
            Err(problem) => {
                let field = format!("{}.{place}.{name}", self.field);
                self.context.findings.report(diag::CONDITION_NOT_BUILT, self.entry, &field, problem, None);
                self.broken = true;
                Some(Vec::new())
            }
        }
    }

    fn query(&mut self, params: &BTreeMap<String, StringMatch>) -> Vec<QueryMatch> {
        let read = |(name, value): (&String, &StringMatch)| QueryMatch {
            name: name.clone(),
            value: self.string(&format!("queryParams.{name}"), value),
        };
        params.iter().map(read).collect()
    }

    fn regex(&mut self, name: &str, regex: &str) {
        let field = format!("{}.{name}.regex", self.field);
        if !self.context.regex_usable(self.entry, &field, regex) {
            self.broken = true;
        }
    }
}
