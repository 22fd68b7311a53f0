use super::*;

fn run(arguments: &[&str]) -> Result<RunArgs, u8> {
    match parse::<Cli, _>(["meshgate", "run"].iter().chain(arguments))?.command {
        Command::Run(run) => Ok(*run),
        Command::Check(_) => panic!("not run"),
    }
}

#[test]
fn defaults_are_those_of_an_istio_ingress_gateway() {
    let args = run(&["-f", "a.yaml", "b", "-f", "c"]).unwrap();
    assert_eq!(args.serve.files, ["a.yaml", "b", "c"].map(PathBuf::from));
    assert_eq!(args.identity.namespace, "istio-system");
    assert_eq!(args.identity.labels.0, BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]));
    assert_eq!(args.serve.admin, "127.0.0.1:15000".parse().unwrap());
    assert_eq!(args.serve.status, "0.0.0.0:15021".parse().unwrap());
    assert!(args.serve.worker_count() >= 1);
}

#[test]
fn usage_errors_exit_64_and_help_exits_0() {
    assert_eq!(run(&[]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--nonsense"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--to", ":80"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["--to", "nonsense"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["--to", ":80", "--http", "127.0.0.1:0"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--workers", "0"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--labels", "x"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--proxy-protocol-from", "10.0.0.1"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--log", "a=nonsense"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--log", "dbug"]).unwrap_err(), exit::USAGE);
    assert_eq!(run(&["-f", "a", "--log", "info,nonsense"]).unwrap_err(), exit::USAGE);
    assert!(run(&["-f", "a", "--log", "gateway::store=debug,info"]).is_ok());
    assert_eq!(parse::<Cli, _>(["meshgate"]).unwrap_err(), exit::USAGE);
    assert_eq!(parse::<Cli, _>(["meshgate", "nonsense"]).unwrap_err(), exit::USAGE);
    assert_eq!(parse::<Cli, _>(["meshgate", "--version"]).unwrap_err(), exit::OK);
    assert_eq!(parse::<Cli, _>(["meshgate", "run", "--help"]).unwrap_err(), exit::OK);
}

#[test]
fn targets() {
    assert_eq!(parse_target(":3000"), Ok(Target { host: "127.0.0.1".into(), port: 3000 }));
    assert_eq!(parse_target("[::1]:3000"), Ok(Target { host: "::1".into(), port: 3000 }));
    assert_eq!(parse_target("app.example:80"), Ok(Target { host: "app.example".into(), port: 80 }));
    for wrong in ["app", "app:", "app:0", "app:99999", "a b:80", "a\"b:80", "http://"] {
        assert!(parse_target(wrong).is_err(), "{wrong}");
    }
    for (url, meant) in [
        ("http://a.example", "`a.example:80`"),
        ("http://a.example:81/x", "`a.example:81`"),
        ("https://a.example/", "`a.example:443`; that TLS"),
    ] {
        let said = parse_target(url).unwrap_err();
        assert!(said.contains(&format!("is a URL; write HOST:PORT, {meant}")), "{said}");
    }
}

#[test]
fn domains_are_names_each_once() {
    let quick = |domains: &str| run(&["--to", ":3000", "--domain", domains]).unwrap().start().text.unwrap().1;
    assert_eq!(quick("a.example,A.example."), quick("a.example"));
    for (wrong, said) in [("a.example,", "empty"), ("https://a.example/x", "write the name alone, `a.example`")] {
        let error = parse_domain(wrong.rsplit(',').next().unwrap()).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert_eq!(run(&["--to", ":3000", "--domain", wrong]).unwrap_err(), exit::USAGE);
    }
}

#[test]
fn clear_text_and_tls_need_ports_of_their_own() {
    let check = |http: &str, https: &str| {
        run(&["--to", ":3000", "--domain", "a.example", "--http", http, "--https", https]).unwrap().check()
    };
    assert!(check(":8080", ":8080").unwrap_err().contains("--https 0.0.0.0:8080"));
    assert!(check("127.0.0.1:8080", ":8080").is_err());
    assert_eq!(check("127.0.0.1:8080", "127.0.0.2:8080"), Ok(()));
    assert_eq!(check(":8080", ":8443"), Ok(()));
    assert_eq!(run(&["--to", ":3000"]).unwrap().check(), Ok(()));
}

#[test]
fn quick_objects_are_what_a_user_would_write() {
    let start = |arguments: &[&str]| run(arguments).unwrap().start().text.unwrap().1;
    insta::assert_snapshot!(start(&["--to", ":3000", "--from", "a.example", "--http", "127.0.0.1:8081"]));
    let domains = ["--to", ":3000", "--domain", "A.example.,b.example"];
    insta::assert_snapshot!("quick_objects_with_certificates", start(&domains));
    let elsewhere = [&domains[..], &["--http", "[::1]:8080", "--https", "[::1]:8443"]].concat();
    insta::assert_snapshot!("quick_objects_with_certificates_on_other_ports", start(&elsewhere));
}

#[test]
fn certificates_are_ordered_with_files_alone() {
    let acme = |arguments: &[&str]| run(arguments).unwrap().start().acme;
    let options = acme(&["-f", "a", "--acme-storage", "/s", "--email", "a@b.example"]).unwrap();
    assert_eq!((options.storage, options.ca.email.as_deref()), ("/s".into(), Some("a@b.example")));
    assert_eq!(
        (&*options.ca.directory, options.ca.own_directory),
        ("https://acme-v02.api.letsencrypt.org/directory", false)
    );
    assert_eq!(acme(&["--controller", "c"]), None);
    for wrong in [
        &["--to", ":80", "--domain", "*.example"][..],
        &["--to", ":80", "--domain", "a b"],
        &["--to", ":80", "--domain", "a.example", "--from", "a.example"],
        &["--to", ":80", "--https", ":443"],
        &["-f", "a", "--domain", "a.example"],
        &["-f", "a", "--acme-eab-kid", "x"],
        &["-f", "a", "--acme-directory", "nonsense"],
    ] {
        assert_eq!(run(wrong).unwrap_err(), exit::USAGE, "{wrong:?}");
    }
}
