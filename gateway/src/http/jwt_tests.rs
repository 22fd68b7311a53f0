use serde_json::json;

use super::*;

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(header), part(claims))
}

fn read(claims: &Value) -> Result<(), &'static str> {
    Parsed::read(&token(&json!({ "alg": "ES256" }), claims))?.check_time(UNIX_EPOCH + Duration::from_secs(1000))
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_envoy() {
    for (text, problem) in [
        ("a.b", FORM),
        ("a.b.c.d", FORM),
        ("", FORM),
        ("!.e30.c2ln", "Jwt header is an invalid Base64url encoded"),
        ("e30.e30.c2ln", "Jwt header [alg] field is required and must be a string"),
        ("bnVsbA.e30.c2ln", "Jwt header is an invalid JSON"),
    ] {
        assert_eq!(Parsed::read(text).err(), Some(problem), "{text}");
    }
    let alg = json!({ "alg": "ES256" });
    for (header, claims, problem) in [
        (json!({ "alg": "none" }), json!({}), "Jwt header [alg] is not supported"),
        (json!({ "alg": "ES256", "kid": 1 }), json!({}), "Jwt header [kid] field is not a string"),
        (alg.clone(), json!([]), "Jwt payload is an invalid JSON"),
        (alg.clone(), json!({ "iss": 1 }), "Jwt payload [iss] field is not a string"),
        (alg.clone(), json!({ "aud": [1] }), "Jwt payload [aud] field is not a string or string list"),
    ] {
        assert_eq!(Parsed::read(&token(&header, &claims)).err(), Some(problem));
    }
    assert_eq!(Parsed::read("eyJhbGciOiJFUzI1NiJ9.e30.!").err(), Some("Jwt signature is an invalid Base64url encoded"));
}

#[test]
fn clocks_may_differ_by_a_minute() {
    assert_eq!(read(&json!({})), Ok(()));
    assert_eq!(read(&json!({ "exp": 940 })), Ok(()));
    assert_eq!(read(&json!({ "exp": 939 })), Err("Jwt is expired"));
    assert_eq!(read(&json!({ "nbf": 1060.5 })), Ok(()));
    assert_eq!(read(&json!({ "nbf": 1061 })), Err("Jwt not yet valid"));
    assert_eq!(read(&json!({ "exp": "x" })), Err("Jwt payload [exp] field is not an integer"));
    assert_eq!(read(&json!({ "exp": -1 })), Err("Jwt payload [exp] field is not a positive 64 bit integer"));
    assert_eq!(read(&json!({ "exp": 1e300 })), Err("Jwt payload [exp] field is not a positive 64 bit integer"));
}

#[test]
fn audiences_are_compared_without_scheme_and_slash() {
    assert!(same("a.example", "https://a.example/"));
    assert!(same("http://a.example", "a.example"));
    assert!(!same("a.example", "b.example"));
    assert!(!same("a.example", "a.example/x"));
}

#[test]
fn parameters_are_taken_out() {
    for (before, after) in [
        ("/p?t=x", "/p"),
        ("/p?a=b&t=x&c", "/p?a=b&c"),
        ("/p?%74=x&a=%2f", "/p?a=%2f"),
        ("/p?tt=x", "/p?tt=x"),
        ("/p", "/p"),
    ] {
        let mut target = before.to_owned();
        remove_parameter(&mut target, "t");
        assert_eq!(target, after);
    }
    assert_eq!(decode("a%2Fb%zz%4"), "a/b%zz%4");
}

#[test]
fn claims_as_texts() {
    for (claim, text) in [
        (json!("a"), Some("a")),
        (json!(7), Some("7")),
        (json!(true), Some("true")),
        (json!(null), None),
        (json!(["a"]), Some("WyJhIl0=")),
    ] {
        assert_eq!(claim_text(&claim).as_deref(), text);
    }
}
