use super::*;

#[test]
fn values_with_commands() {
    for good in [
        "",
        "foo",
        "100%%",
        "%HOSTNAME%",
        "a %REQ(x?y)% b",
        "%START_TIME(%Y-%m)%",
        "%DYNAMIC_METADATA([\"a\", \"b\"])%",
        "%REQ(\"a)b\")%",
        "a\tb",
        "%A(x) %",
    ] {
        assert!(value(good).is_ok(), "{good}: {:?}", value(good));
    }
    for bad in ["%", "a%", "abc%123", "%START_TIME%%", "%REQ(x", "%REQ(x)", "%REQ(x)y%", "a\nb", "a\u{7f}", "%REQ(x\\"]
    {
        assert!(value(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_by_use() {
    for good in [
        "x-a",
        "X_a",
        ":authority",
        ":path",
        "@request.auth.claims.sub",
        "@request.auth.claims[a][b]",
        "!#$%&'*+-.^_`|~",
    ] {
        assert!(match_name(good).is_ok(), "{good}");
    }
    for bad in
        ["", "a b", ":other", "a:b", "é", "@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[]"]
    {
        assert!(match_name(bad).is_err(), "{bad}");
    }
    assert!(request_name("Host").is_ok() && request_name(":authority").is_ok() && request_name("x").is_ok());
    assert!(request_name(":path").is_err() && request_name("").is_err());
    assert!(operation_name("host").is_err() && operation_name(":authority").is_err() && operation_name("x").is_ok());
    assert!(cors_name("*").is_ok() && cors_name("a b").is_err());
}
