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
    for wrong in ["app", "app:", "app:0", "app:99999", "a b:80", "a\"b:80"] {
        assert!(parse_target(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn quick_objects_are_what_a_user_would_write() {
    let text =
        quick_objects(&parse_target(":3000").unwrap(), Some("a.example"), parse_listen("127.0.0.1:8081").unwrap());
    insta::assert_snapshot!(text);
}
