use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::SpiffeId;
use crate::object::ObjectRef;
use crate::snapshot::{Facts, PeerFacts, Request, Ruling, Token};

fn policy(name: &str, action: PolicyAction, rules: Vec<PolicyRule>) -> Authorization {
    let key = format!("default/{name}").into();
    Authorization { key, action, dry_run: false, rules, origin: ObjectRef::new("AuthorizationPolicy", "default", name) }
}

fn rule(index: u32, from: Vec<Vec<Clause>>, to: Vec<Vec<Clause>>, when: Vec<Clause>) -> PolicyRule {
    PolicyRule { index, from, to, when }
}

fn clause(attribute: Attribute, values: &[&str], negated: bool) -> Clause {
    let values = values.iter().map(|value| attribute.value(value).unwrap()).collect();
    Clause { attribute, values, negated }
}

fn compiled(policies: Vec<Authorization>) -> Arc<Authorizer> {
    let policies = policies.into_iter().map(|policy| (policy.key.clone(), Arc::new(policy))).collect();
    let mut diagnostics = Vec::new();
    let authorizer = authorizer(&policies, None, &mut diagnostics);
    assert_eq!(diagnostics, []);
    authorizer
}

/// A request that owns what it is made of.
#[derive(Clone, Debug)]
struct Sample {
    method: String,
    authority: String,
    path: String,
    headers: Vec<(String, String)>,
    peer: Option<SpiffeId>,
    source: IpAddr,
    remote: IpAddr,
    local: SocketAddr,
    sni: Option<String>,
    claims: Option<serde_json::Value>,
    http: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Sample {
            method: "GET".to_owned(),
            authority: "a.example".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
            peer: None,
            source: [10, 0, 0, 1].into(),
            remote: [192, 0, 2, 1].into(),
            local: ([10, 0, 0, 9], 8080).into(),
            sni: None,
            claims: None,
            http: true,
        }
    }
}

impl Sample {
    fn with<T>(&self, look: impl FnOnce(&Facts<'_>) -> T) -> T {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let token = self.claims.as_ref().map(|claims| Token::new(claims.as_object().unwrap().clone(), &[]));
        let request = Request {
            method: &self.method,
            scheme: "http",
            authority: &self.authority,
            path: &self.path,
            query: None,
            headers: &headers,
            token: token.as_ref(),
        };
        let principal = self.peer.as_ref().map(|id| id.to_string().trim_start_matches("spiffe://").to_owned());
        look(&Facts {
            request: self.http.then_some(request),
            peer: principal.as_deref().map(|principal| PeerFacts { principal, id: self.peer.as_ref() }),
            source: Some(self.source),
            remote: Some(self.remote),
            local: Some(self.local),
            sni: self.sni.as_deref(),
        })
    }

    fn holds(&self, attribute: Attribute, values: &[&str], negated: bool) -> bool {
        let rule = rule(0, Vec::new(), Vec::new(), vec![clause(attribute, values, negated)]);
        let authorizer = compiled(vec![policy("a", PolicyAction::Allow, vec![rule])]);
        self.with(|facts| matches!(authorizer.decide(facts), Ruling::Allowed))
    }

    fn denied(&self, attribute: Attribute, values: &[&str], negated: bool) -> bool {
        let rule = rule(0, Vec::new(), Vec::new(), vec![clause(attribute, values, negated)]);
        let authorizer = compiled(vec![policy("a", PolicyAction::Deny, vec![rule])]);
        self.with(|facts| matches!(authorizer.decide(facts), Ruling::Denied(_)))
    }
}

#[test]
fn hosts() {
    let at = |authority: &str| Sample { authority: authority.to_owned(), ..Sample::default() };
    for (pattern, yes, no) in [
        ("x.com", &["x.com", "X.Com"][..], &["x.com:8080", "a.x.com", "x.com."][..]),
        ("x.com:*", &["x.com:80", "X.COM:8080"], &["x.com"]),
        ("*.w.com", &["a.w.com", "A.W.COM", "a.b.w.com"], &["a.w.com:80", "w.com"]),
        ("prefix.*", &["prefix.b", "PREFIX.c"], &["x.prefix.b"]),
        ("*", &["anything"], &[""]),
    ] {
        yes.iter().for_each(|host| assert!(at(host).holds(Attribute::Host, &[pattern], false), "{pattern} {host}"));
        no.iter().for_each(|host| assert!(!at(host).holds(Attribute::Host, &[pattern], false), "{pattern} {host}"));
    }
}

/// What denies a host denies it with every port and with a dot behind it: routes do not tell these apart either.
#[test]
fn a_host_that_is_denied_has_no_other_spelling() {
    for host in ["x.com", "X.com", "x.com:8080", "x.com.", "X.COM.:80"] {
        let sample = Sample { authority: host.to_owned(), ..Sample::default() };
        assert!(sample.denied(Attribute::Host, &["x.com"], false), "{host}");
        assert!(sample.denied(Attribute::Host, &["*.com"], false), "{host}");
    }
    let other = Sample { authority: "y.com:80".to_owned(), ..Sample::default() };
    assert!(!other.denied(Attribute::Host, &["x.com"], false));
    assert!(other.denied(Attribute::Host, &["x.com"], true));
    // All hosts but this one: another spelling is another host.
    let spelled = Sample { authority: "x.com.".to_owned(), ..Sample::default() };
    assert!(spelled.denied(Attribute::Host, &["x.com"], true));
}

#[test]
fn paths() {
    let at = |path: &str| Sample { path: path.to_owned(), ..Sample::default() };
    for (pattern, yes, no) in [
        ("/a", &["/a"][..], &["/A", "/a/", "/ab"][..]),
        ("/a*", &["/a", "/ab", "/a/b"], &["/b"]),
        ("*/a", &["/x/a", "/a"], &["/ab"]),
        ("/g/{*}", &["/g/x"], &["/g/", "/g", "/g/x/y"]),
        ("/g/{*}/z", &["/g/x/z"], &["/g//z", "/g/x/y/z"]),
        ("/g/{**}", &["/g/", "/g/x", "/g/x/y"], &["/g"]),
        ("/g/{**}/z", &["/g/x/z", "/g//z"], &["/g/x"]),
        ("/a.b/{*}", &["/a.b/c"], &["/aXb/c"]),
    ] {
        for path in yes {
            assert!(at(path).holds(Attribute::Path, &[pattern], false), "{pattern} {path}");
            assert!(at(path).denied(Attribute::Path, &[pattern], false), "{pattern} {path}");
        }
        for path in no {
            assert!(!at(path).holds(Attribute::Path, &[pattern], false), "{pattern} {path}");
            assert!(!at(path).denied(Attribute::Path, &[pattern], false), "{pattern} {path}");
        }
    }
    // What Envoy does not take for a segment is not allowed by a template, and does not slip through one that denies.
    assert!(!at("/g/a*b").holds(Attribute::Path, &["/g/{*}"], false));
    assert!(at("/g/a*b").denied(Attribute::Path, &["/g/{*}"], false));
}

#[test]
fn headers() {
    let with = |lines: &[(&str, &str)]| Sample {
        headers: lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Sample::default()
    };
    let header = || Attribute::of_key("request.headers[X-A]").unwrap();
    assert!(with(&[("x-a", "")]).holds(header(), &["*"], false));
    assert!(!with(&[]).holds(header(), &["*"], false));
    assert!(with(&[("x-a", "b"), ("x-a", "v1")]).holds(header(), &["v*"], false));
    assert!(!with(&[("x-a", "b,v1")]).holds(header(), &["v1"], false));
    assert!(with(&[]).holds(header(), &["v1"], true));
    assert!(with(&[("x-a", "v2")]).holds(header(), &["v1"], true));
    let authority = Attribute::of_key("request.headers[:authority]").unwrap();
    assert!(with(&[]).holds(authority, &["a.example"], false));
}

#[test]
fn addresses_and_ports() {
    let sample = Sample::default();
    let mapped = Sample { source: "::ffff:10.0.0.1".parse().unwrap(), ..Sample::default() };
    for sample in [&sample, &mapped] {
        assert!(sample.holds(Attribute::SourceIp, &["10.0.0.1"], false));
        assert!(sample.holds(Attribute::SourceIp, &["192.0.2.0/24", "10.0.0.0/8"], false));
        assert!(!sample.holds(Attribute::SourceIp, &["192.0.2.0/24"], false));
    }
    assert!(sample.holds(Attribute::RemoteIp, &["192.0.2.0/24"], false));
    assert!(!sample.holds(Attribute::RemoteIp, &["192.0.2.0/24"], true));
    assert!(sample.holds(Attribute::DestinationPort, &["80", "8080"], false));
    assert!(!sample.holds(Attribute::DestinationPort, &["80"], false));
    assert!(sample.holds(Attribute::DestinationIp, &["10.0.0.9"], false));
    let sni = Sample { sni: Some("a.example".to_owned()), ..Sample::default() };
    assert!(sni.holds(Attribute::Sni, &["*.example"], false));
    assert!(!sample.holds(Attribute::Sni, &["*"], false));
}

#[test]
fn identities_of_peers() {
    let peer = Some(SpiffeId::new("cluster.local", "ns", "sa").unwrap());
    let (known, unknown) = (Sample { peer, ..Sample::default() }, Sample::default());
    for (attribute, yes, no) in [
        (
            Attribute::SourcePrincipal,
            &["cluster.local/ns/ns/sa/sa", "*/sa/sa", "cluster.local/ns/ns/*", "*"][..],
            "cluster.local/ns/ns",
        ),
        (Attribute::SourceNamespace, &["ns", "n*", "*"], "other"),
        (Attribute::SourceServiceAccount, &["ns/sa"], "ns/other"),
        (Attribute::SourceTrustDomain, &["cluster.local", "cluster.*"], "other"),
    ] {
        for value in yes {
            assert!(known.holds(attribute.clone(), &[value], false), "{attribute} {value}");
            assert!(!unknown.holds(attribute.clone(), &[value], false), "{attribute} {value}");
            // Without mTLS: nobody is not one of them.
            assert!(unknown.denied(attribute.clone(), &[value], true), "{attribute} {value}");
        }
        assert!(!known.holds(attribute.clone(), &[no], false));
        assert!(known.denied(attribute, &[no], true));
    }
}

#[test]
fn tokens() {
    let claims = json!({ "iss": "i", "sub": "s", "aud": ["a", "b"], "azp": "p", "groups": ["x", "y"],
        "nested": { "key": "v" }, "scope": "read write", "admin": true });
    let (with, without) = (Sample { claims: Some(claims), ..Sample::default() }, Sample::default());
    for (key, yes, no) in [
        ("request.auth.principal", &["i/s", "*", "i/*", "*/s"][..], "i"),
        ("request.auth.audiences", &["a", "b"], "c"),
        ("request.auth.presenter", &["p"], "q"),
        ("request.auth.claims[groups]", &["x", "y", "*"], "z"),
        ("request.auth.claims[nested][key]", &["v"], "w"),
        ("request.auth.claims[scope]", &["read", "write"], "read write"),
    ] {
        let attribute = Attribute::of_key(key).unwrap();
        for value in yes {
            assert!(with.holds(attribute.clone(), &[value], false), "{key} {value}");
            assert!(!without.holds(attribute.clone(), &[value], false), "{key} {value}");
            assert!(without.denied(attribute.clone(), &[value], true), "{key} {value}");
        }
        assert!(!with.holds(attribute, &[no], false), "{key} {no}");
    }
    // Other types than texts and lists of texts do not match.
    assert!(!with.holds(Attribute::of_key("request.auth.claims[admin]").unwrap(), &["true"], false));
}

#[test]
fn actions_in_their_order() {
    let path = |path: &str| vec![rule(0, Vec::new(), vec![vec![clause(Attribute::Path, &[path], false)]], Vec::new())];
    let custom = PolicyAction::Custom { provider: "p".into(), authorizer: None };
    let policies = vec![
        policy("custom", custom, path("/custom*")),
        policy("deny", PolicyAction::Deny, path("*secret")),
        policy("allow", PolicyAction::Allow, path("/a*")),
        policy("tell", PolicyAction::Audit, path("/a*")),
        Authorization { dry_run: true, ..policy("try", PolicyAction::Deny, path("/a*")) },
    ];
    let authorizer = compiled(policies);
    let ask = |path: &str| {
        let sample = Sample { path: path.to_owned(), ..Sample::default() };
        sample.with(|facts| {
            let observers: Vec<_> = authorizer.observers(facts).map(|policy| &*policy.model.origin.name).collect();
            (authorizer.decide(facts).details(), observers.join(" "))
        })
    };
    let denied = |policy: &str| format!("rbac_access_denied_matched_policy[{policy}]");
    assert_eq!(ask("/custom/secret"), ("ext_authz_error".to_owned(), String::new()));
    assert_eq!(ask("/a/secret"), (denied("ns[default]-policy[deny]-rule[0]"), "try tell".to_owned()));
    assert_eq!(ask("/a"), (String::new(), "try tell".to_owned()));
    assert_eq!(ask("/b"), (denied("none"), String::new()));
    assert!(compiled(Vec::new()).is_empty());
    let nothing = compiled(vec![policy("nothing", PolicyAction::Allow, Vec::new())]);
    Sample::default().with(|facts| assert!(matches!(nothing.decide(facts), Ruling::Denied(None))));
    let everything = vec![rule(0, Vec::new(), Vec::new(), Vec::new())];
    let everything = compiled(vec![policy("everything", PolicyAction::Allow, everything)]);
    Sample::default().with(|facts| assert!(matches!(everything.decide(facts), Ruling::Allowed)));
}

/// What only HTTP has never allows another connection, and does not save it from what denies.
#[test]
fn connections_that_are_not_http() {
    let tcp = Sample { http: false, ..Sample::default() };
    for negated in [false, true] {
        assert!(!tcp.holds(Attribute::Path, &["/a"], negated));
        assert!(tcp.denied(Attribute::Path, &["/a"], negated));
        assert!(!tcp.holds(Attribute::RequestPrincipal, &["*"], negated));
        assert!(tcp.denied(Attribute::RequestPrincipal, &["*"], negated));
    }
    assert!(tcp.holds(Attribute::DestinationPort, &["8080"], false));
}

#[test]
fn policies_that_stay_are_not_prepared_again() {
    let policies: Resources<Authorization> =
        [policy("a", PolicyAction::Deny, Vec::new())].into_iter().map(|one| (one.key.clone(), Arc::new(one))).collect();
    let first = authorizer(&policies, None, &mut Vec::new());
    assert!(Arc::ptr_eq(&first, &authorizer(&policies.clone(), Some(&first), &mut Vec::new())));
    let fewer = authorizer(&Resources::new(), Some(&first), &mut Vec::new());
    assert!(fewer.is_empty());
}

// Against an evaluator that is as plain as the words of the API.

const TEXTS: [&str; 6] = ["", "a", "b", "ab", "/a/b", "A"];

fn naive_value(value: &ValueMatch, text: &str, any_case: bool) -> bool {
    let fold = |text: &str| if any_case { text.to_lowercase() } else { text.to_owned() };
    let text = fold(text);
    match value {
        ValueMatch::Present => !text.is_empty(),
        ValueMatch::Exact(wanted) => text == fold(wanted),
        ValueMatch::Prefix(wanted) => text.starts_with(&fold(wanted)),
        ValueMatch::Suffix(wanted) => text.ends_with(&fold(wanted)),
        _ => false,
    }
}

fn naive_clause(clause: &Clause, sample: &Sample, denies: bool) -> bool {
    if !sample.http && clause.attribute.is_http() {
        return denies;
    }
    let values = || clause.values.iter();
    let found = match &clause.attribute {
        Attribute::Method => values().any(|value| naive_value(value, &sample.method, false)),
        Attribute::Path => values().any(|value| naive_value(value, &sample.path, false)),
        Attribute::Host => values().any(|value| naive_value(value, &sample.authority, true)),
        Attribute::Sni => sample.sni.as_ref().is_some_and(|sni| values().any(|value| naive_value(value, sni, false))),
        Attribute::SourceNamespace => {
            sample.peer.as_ref().is_some_and(|id| values().any(|value| naive_value(value, id.namespace(), false)))
        }
        Attribute::Header(name) => sample
            .headers
            .iter()
            .filter(|(header, _)| header == name)
            .any(|(_, line)| values().any(|value| *value == ValueMatch::Present || naive_value(value, line, false))),
        _ => false,
    };
    found != clause.negated
}

fn naive(policies: &[Authorization], sample: &Sample) -> String {
    let matching = |policy: &Authorization| {
        let denies = policy.action == PolicyAction::Deny;
        let all = |clauses: &Vec<Clause>| clauses.iter().all(|clause| naive_clause(clause, sample, denies));
        let found = policy.rules.iter().find(|rule| {
            (rule.from.is_empty() || rule.from.iter().any(all))
                && (rule.to.is_empty() || rule.to.iter().any(all))
                && all(&rule.when)
        });
        found.map(|rule| rule.index)
    };
    for policy in policies.iter().filter(|policy| policy.action == PolicyAction::Deny) {
        if let Some(index) = matching(policy) {
            return format!(
                "rbac_access_denied_matched_policy[ns[default]-policy[{}]-rule[{index}]]",
                policy.origin.name
            );
        }
    }
    let allow: Vec<_> = policies.iter().filter(|policy| policy.action == PolicyAction::Allow).collect();
    if allow.is_empty() || allow.iter().any(|policy| matching(policy).is_some()) {
        return String::new();
    }
    "rbac_access_denied_matched_policy[none]".to_owned()
}

fn any_value() -> impl Strategy<Value = ValueMatch> {
    let text = || proptest::sample::select(TEXTS.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        Just(ValueMatch::Present),
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        text().prop_map(ValueMatch::Suffix),
    ]
}

fn any_clause() -> impl Strategy<Value = Clause> {
    let attribute = proptest::sample::select(vec![
        Attribute::Method,
        Attribute::Path,
        Attribute::Sni,
        Attribute::SourceNamespace,
        Attribute::Header("x-a".to_owned()),
    ]);
    (attribute, proptest::collection::vec(any_value(), 0..3), any::<bool>())
        .prop_map(|(attribute, values, negated)| Clause { attribute, values, negated })
}

fn any_policies() -> impl Strategy<Value = Vec<Authorization>> {
    let clauses = || proptest::collection::vec(any_clause(), 0..3);
    let lists = move || proptest::collection::vec(clauses(), 0..3);
    let rules = proptest::collection::vec((lists(), lists(), clauses()), 0..3);
    proptest::collection::vec((any::<bool>(), rules), 0..4).prop_map(|policies| {
        let one = |(number, (denies, rules)): (usize, (bool, Vec<_>))| {
            let action = if denies { PolicyAction::Deny } else { PolicyAction::Allow };
            let rules =
                rules.into_iter().zip(0..).map(|((from, to, when), index)| rule(index, from, to, when)).collect();
            policy(&format!("p{number}"), action, rules)
        };
        policies.into_iter().enumerate().map(one).collect()
    })
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let text = || proptest::sample::select(TEXTS.to_vec()).prop_map(str::to_owned);
    let lines = proptest::collection::vec(text(), 0..3);
    let some = || proptest::option::of(text());
    (text(), text(), lines, some(), proptest::option::of(Just("a")), any::<bool>()).prop_map(
        |(method, path, lines, sni, namespace, http)| Sample {
            method,
            path,
            headers: lines.into_iter().map(|line| ("x-a".to_owned(), line)).collect(),
            sni,
            peer: namespace.map(|namespace| SpiffeId::new("td", namespace, "sa").unwrap()),
            http,
            ..Sample::default()
        },
    )
}

proptest! {
    #[test]
    fn decisions_are_those_of_a_plain_evaluator(policies in any_policies(), sample in any_sample()) {
        let authorizer = compiled(policies.clone());
        let found = sample.with(|facts| authorizer.decide(facts).details());
        prop_assert_eq!(found, naive(&policies, &sample));
    }
}
