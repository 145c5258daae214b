use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    probe: ProbeArguments,
}

/// A server that takes this login; returns its port.
fn server(login: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mx\r\n").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            let reply = match line.as_str() {
                line if line.starts_with("EHLO") => "250-mx\r\n250 AUTH PLAIN".to_owned(),
                line if line == format!("AUTH PLAIN {login}") => "235 2.7.0 in".to_owned(),
                line if line.starts_with("AUTH") => format!("535 5.7.8 not {line}"),
                _ => "221 bye".to_owned(),
            };
            if stream.write_all(format!("{reply}\r\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    port
}

/// Runs the command, and returns the outcome that it prints, which is also the content of its file.
fn told(arguments: &[String]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("termination-log");
    let own = [String::from("probe"), format!("--result-file={}", file.display())];
    let line = CommandLine::parse_from(own.iter().chain(arguments));
    let mut output = vec![];
    run(&line.probe, &mut output).unwrap();
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(String::from_utf8(output).unwrap(), format!("{written}\n"));
    assert!(!written.contains("hunter2"));
    report::outcome(&written).unwrap()
}

fn login(username: Option<&str>, password: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, part) in [("username", username), ("password", password)] {
        if let Some(part) = part {
            fs::write(folder.path().join(name), part).unwrap();
        }
    }
    folder
}

#[test]
fn one_look_is_written_down_and_a_failing_backend_is_no_failure_of_it() {
    // `\0shop\0hunter2`.
    let good = "AHNob3AAaHVudGVyMg==";
    let arguments = |port: u16, folder: &Path| {
        ["--host=127.0.0.1", &format!("--port={port}"), "--depth=Auth", "--ehlo-name=pod", "--timeout=2s"]
            .map(str::to_owned)
            .into_iter()
            .chain(["--allow-destinations=127.0.0.1".to_owned(), format!("--allow-ports={port}")])
            .chain([format!("--login-folder={}", folder.display())])
            .collect::<Vec<_>>()
    };
    let folder = login(Some("shop"), Some("hunter2\n"));
    let seen = told(&arguments(server(good), folder.path()));
    assert_eq!((seen.class, seen.message.as_str()), (EvidenceClass::Ok, "AUTH: 235 2.7.0 in"));
    let seen = told(&arguments(server("another"), folder.path()));
    assert_eq!((seen.class, seen.stage), (EvidenceClass::AuthenticationRefused, Stage::Auth));
    let folder = login(Some("shop"), None);
    let seen = told(&arguments(server(good), folder.path()));
    assert_eq!(seen.class, EvidenceClass::ProbeBlocked);
    assert!(seen.message.contains("key password: it is not there; create the Secret"), "{}", seen.message);
}

#[test]
fn an_authority_that_is_not_mounted_is_said_before_anything_is_connected_to() {
    let arguments = ["--host=127.0.0.1", "--port=1", "--tls=StartTLS", "--ca-file=/nowhere/ca.crt"].map(str::to_owned);
    let seen = told(&arguments);
    assert_eq!(seen.class, EvidenceClass::ProbeBlocked);
    assert!(seen.message.starts_with("tls.caRef: it is not there"), "{}", seen.message);
}

#[test]
fn a_host_that_may_not_be_connected_to_is_a_result() {
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        let seen = told(&[format!("--host={host}"), "--port=25".to_owned()]);
        assert_eq!(seen.class, EvidenceClass::ProbeBlocked, "{seen:?}");
        assert!(seen.message.contains("which is never connected to"), "{}", seen.message);
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let line = CommandLine::parse_from(["probe", "--host=127.0.0.1", "--port=1", "--result-file=/nowhere/log"]);
    let error = run(&line.probe, &mut vec![]).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/log cannot be written"));
}
