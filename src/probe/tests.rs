//! Probes against real listeners of the test's own, and an engine of a few lines.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::pending;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::core::api::{Running, Seen};
use crate::engine::{EngineImage, EngineInfo, Identity, LogPiece, LogRange, Made};
use crate::spec::types::{Container, HttpProbe, Target, Timing, Tls};

/// Long enough that a busy machine does not reach it.
const PATIENCE: Duration = Duration::from_secs(60);

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// An engine that only runs programs, in the way that the test says.
struct Scripted {
    exec: Result<Executed, Fault>,
    version: Option<Result<String, Fault>>,
    asked: Cell<u32>,
}

impl Scripted {
    fn new(exec: Result<Executed, Fault>, version: Option<Result<String, Fault>>) -> Self {
        Self {
            exec,
            version,
            asked: Cell::new(0),
        }
    }

    fn unused() -> Self {
        Self::new(Err(no()), None)
    }
}

fn no() -> Fault {
    Fault::Refused("not in this test".to_owned())
}

impl Engine for Scripted {
    async fn version(&self) -> Result<String, Fault> {
        self.asked.set(self.asked.get() + 1);
        match &self.version {
            Some(version) => version.clone(),
            None => pending().await,
        }
    }
    async fn containers(&self, _: &str, _: Option<&str>) -> Result<Vec<Seen>, Fault> {
        Err(no())
    }
    async fn create(&self, _: &Container, _: &str, _: &Identity) -> Result<Made, Fault> {
        Err(no())
    }
    async fn start(&self, _: &str) -> Result<Running, Fault> {
        Err(no())
    }
    async fn stop(&self, _: &str, _: Duration) -> Result<(), Fault> {
        Err(no())
    }
    async fn remove(&self, _: &str) -> Result<(), Fault> {
        Err(no())
    }
    async fn exec(&self, _: &str, _: &[String], _: Duration) -> Result<Executed, Fault> {
        self.exec.clone()
    }
    fn logs(&self, _: &str, _: LogRange) -> impl Stream<Item = Result<LogPiece, Fault>> + use<> {
        futures_util::stream::iter([Err(no())])
    }
    async fn image(&self, _: &str) -> Result<Option<EngineImage>, Fault> {
        Err(no())
    }
    async fn images(&self) -> Result<Vec<EngineImage>, Fault> {
        Err(no())
    }
    async fn tag(&self, _: &str, _: &str) -> Result<(), Fault> {
        Err(no())
    }
    async fn remove_image(&self, _: &str, _: bool) -> Result<(), Fault> {
        Err(no())
    }
    async fn load<B, P>(&self, _: B, _: P) -> Result<Vec<String>, Fault>
    where
        B: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        P: FnMut(),
    {
        Err(no())
    }
    async fn info(&self) -> Result<EngineInfo, Fault> {
        Err(no())
    }
}

fn health(probe: Probe, timeout: Duration) -> Health {
    Health {
        probe,
        timing: Timing {
            timeout,
            ..Timing::default()
        },
    }
}

fn here() -> ProbeTarget {
    ProbeTarget {
        id: "c1".to_owned(),
        address: Some(Ipv4Addr::LOCALHOST.into()),
    }
}

fn get(target: Target) -> HttpProbe {
    HttpProbe {
        tls: None,
        target,
        path: "/healthz?deep=1".to_owned(),
        host: None,
        headers: BTreeMap::new(),
        status: vec![(200, 399)],
        body: None,
    }
}

async fn answer(probe: Probe) -> Answer {
    ask(&health(probe, PATIENCE), &here(), &Scripted::unused()).await
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads a request's head.
async fn head(peer: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Answers one request with `reply` and closes; returns the request's head.
async fn serve(mut peer: impl AsyncRead + AsyncWrite + Unpin, reply: &[u8]) -> String {
    let head = head(&mut peer).await;
    // The probe may have seen enough and be gone already.
    let _ = peer.write_all(reply).await;
    let _ = peer.shutdown().await;
    head
}

/// Asks a server that replies `reply`; returns the answer and the request's head.
async fn against(change: impl FnOnce(&mut HttpProbe), reply: &[u8]) -> (Answer, String) {
    let (listener, port) = listener().await;
    let mut question = get(Target::Own(port));
    change(&mut question);
    let server = async { serve(listener.accept().await.unwrap().0, reply).await };
    tokio::join!(answer(Probe::Http(question)), server)
}

type Change = fn(&mut HttpProbe);

fn passed(answer: &Answer, beginning: &str) -> bool {
    matches!(answer, Answer::Pass(text) if text.starts_with(beginning) && text.contains(" in "))
}

fn fail(text: &str) -> Answer {
    Answer::Fail(text.to_owned())
}

#[test]
fn replies() {
    let lacks = fail("200 but the body lacks \"ok\"");
    let body = |q: &mut HttpProbe| q.body = Some("ok".to_owned());
    let range = |q: &mut HttpProbe| q.status = vec![(204, 204), (500, 503)];
    let nothing: Change = |_| ();
    let closed = fail("the peer closed the connection without an answer");
    let late = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n"[..],
        &vec![b'x'; 65535],
        b"ok",
    ]
    .concat();
    let edge = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n"[..],
        &vec![b'x'; 65534],
        b"ok",
    ]
    .concat();
    let table: &[(Change, &[u8], Result<&str, Answer>)] = &[
        (
            nothing,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Ok("200 OK"),
        ),
        (
            nothing,
            b"HTTP/1.0 200 Fine\r\n\r\nuntil the end",
            Ok("200 OK"),
        ),
        (
            nothing,
            b"HTTP/1.1 204 No Content\r\n\r\n",
            Ok("204 No Content"),
        ),
        (
            nothing,
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            Ok("302 Found"),
        ),
        (
            nothing,
            b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            Err(fail("503 Service Unavailable")),
        ),
        (nothing, b"HTTP/1.1 599 Odd\r\n\r\n", Err(fail("599"))),
        (range, b"HTTP/1.1 502 x\r\n\r\n", Ok("502 Bad Gateway")),
        (range, b"HTTP/1.1 200 OK\r\n\r\n", Err(fail("200 OK"))),
        (
            body,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nis ok",
            Ok("200 OK"),
        ),
        (
            body,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            Ok("200 OK"),
        ),
        (
            body,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsorry",
            Err(lacks.clone()),
        ),
        (
            body,
            b"HTTP/1.1 204 OK\r\n\r\n",
            Err(fail("204 but the body lacks \"ok\"")),
        ),
        (body, &edge, Ok("200 OK")),
        (body, &late, Err(lacks)),
        (
            body,
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsor",
            Err(closed.clone()),
        ),
        (nothing, b"", Err(closed.clone())),
        (nothing, b"HTTP/1.1 200", Err(closed)),
        (
            nothing,
            b"220 mail ESMTP\r\n",
            Err(fail("the answer is not HTTP")),
        ),
        (
            nothing,
            &[b'\x15'; 200],
            Err(fail("the answer is not HTTP")),
        ),
    ];
    for (change, reply, expected) in table {
        let (answer, _) = run(against(change, reply));
        let shown = String::from_utf8_lossy(&reply[..reply.len().min(80)]).into_owned();
        match expected {
            Ok(beginning) => assert!(passed(&answer, beginning), "{shown}: {answer:?}"),
            Err(failure) => assert_eq!(&answer, failure, "{shown}"),
        }
    }
}

#[test]
fn the_request_is_as_asked() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (_, head) = run(against(|_| (), ok));
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("GET /healthz?deep=1 HTTP/1.1"));
    let rest: Vec<_> = lines.collect();
    assert!(rest[0].starts_with("host: 127.0.0.1:"), "{head}");
    assert!(rest.contains(&format!("user-agent: monopod/{version}").as_str()));
    assert!(rest.contains(&"connection: close"));

    let (_, head) = run(against(
        |q| {
            q.host = Some("app.local".to_owned());
            q.headers = [("X-Token", "a b"), ("User-Agent", "mine")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        },
        ok,
    ));
    for line in ["host: app.local", "x-token: a b", "user-agent: mine"] {
        assert_eq!(head.lines().filter(|l| *l == line).count(), 1, "{head}");
    }
    assert_eq!(head.matches("user-agent").count(), 1);
}

#[test]
fn what_cannot_be_asked_says_so() {
    run(async {
        let mut header = get(Target::Own(80));
        header.headers.insert("bad name".to_owned(), String::new());
        let mut path = get(Target::Own(80));
        path.path = "/ no".to_owned();
        let mut authorities = get(Target::Own(listener().await.1));
        authorities.tls = Some(Tls {
            ca_file: Some("/nonexistent/ca.pem".into()),
            server_name: None,
        });
        let (_kept, port) = listener().await;
        authorities.target = Target::Own(port);
        for (probe, part) in [
            (Probe::Http(header), "header bad name"),
            (Probe::Http(path), "path / no"),
            (Probe::Http(authorities), "/nonexistent/ca.pem"),
            (
                Probe::Tcp(Target::Host("no-such-host.invalid".to_owned(), 80)),
                "cannot resolve no-such-host.invalid",
            ),
            (Probe::Notify, "reports its own health"),
        ] {
            let Answer::CannotAsk(text) = answer(probe).await else {
                panic!("{part}");
            };
            assert!(text.contains(part), "{text}");
        }
        let nowhere = ProbeTarget {
            id: "c1".to_owned(),
            address: None,
        };
        for probe in [
            Probe::Tcp(Target::Own(80)),
            Probe::Http(get(Target::Own(80))),
        ] {
            let health = health(probe, PATIENCE);
            assert_eq!(
                ask(&health, &nowhere, &Scripted::unused()).await,
                Answer::CannotAsk("the container has no address of its own".to_owned())
            );
        }
    });
}

#[test]
fn tcp_connects_or_says_why_not() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let missing = Probe::Tcp(Target::Unix(path.clone()));
        assert_eq!(answer(missing).await, fail("the socket does not exist"));
        let unix = UnixListener::bind(&path).unwrap();
        let (tcp, port) = listener().await;
        for target in [
            Target::Own(port),
            Target::Host("127.0.0.1".to_owned(), port),
            Target::Host("LocalHost".to_owned(), port),
            Target::Unix(path.clone()),
        ] {
            let answer = answer(Probe::Tcp(target.clone())).await;
            assert!(passed(&answer, "connected"), "{target:?}: {answer:?}");
        }
        drop((tcp, unix));
        for target in [
            Target::Own(port),
            Target::Host("localhost".to_owned(), port),
            Target::Unix(path),
        ] {
            assert_eq!(
                answer(Probe::Tcp(target.clone())).await,
                fail("connection refused"),
                "{target:?}"
            );
        }
    });
}

#[test]
fn http_over_a_unix_socket() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let server = async { serve(listener.accept().await.unwrap().0, ok).await };
        let (answer, head) = tokio::join!(answer(Probe::Http(get(Target::Unix(path)))), server);
        assert!(passed(&answer, "200 OK"), "{answer:?}");
        assert!(head.contains("\r\nhost: localhost\r\n"), "{head}");
    });
}

#[test]
fn the_host_header_names_the_port_only_where_it_must() {
    let own: Option<IpAddr> = Some("fd00::2".parse().unwrap());
    let tls = Tls {
        ca_file: None,
        server_name: None,
    };
    for (target, tls, expected) in [
        (Target::Own(80), None, "[fd00::2]"),
        (Target::Own(8080), None, "[fd00::2]:8080"),
        (Target::Host("app".to_owned(), 443), None, "app:443"),
        (
            Target::Host("app".to_owned(), 443),
            Some(tls.clone()),
            "app",
        ),
        (Target::Host("[::1]".to_owned(), 81), Some(tls), "[::1]:81"),
        (Target::Host("::1".to_owned(), 80), None, "[::1]"),
    ] {
        let mut question = get(target);
        question.tls = tls;
        assert_eq!(http::authority(&question, own), expected);
    }
}

#[test]
fn a_silent_peer_is_cut_off_for_good() {
    run(async {
        // Reached in any case, and not before the question is asked.
        let limit = Duration::from_secs(2);
        let (listener, port) = listener().await;
        let tls = Tls {
            ca_file: None,
            server_name: None,
        };
        for tls in [None, Some(tls)] {
            let mut question = get(Target::Own(port));
            question.tls = tls;
            let health = health(Probe::Http(question), limit);
            let server = async {
                let mut peer = listener.accept().await.unwrap().0;
                let mut rest = Vec::new();
                // Ends when the probe's side is closed, and not before.
                peer.read_to_end(&mut rest).await.unwrap();
                rest
            };
            let (container, engine) = (here(), Scripted::unused());
            let (answer, heard) = tokio::join!(ask(&health, &container, &engine), server);
            assert_eq!(answer, fail("no answer within 2s"));
            assert!(!heard.is_empty());
        }
    });
}

#[test]
fn a_body_that_never_ends_does_not_keep_a_good_status() {
    run(async {
        let (listener, port) = listener().await;
        let question = get(Target::Own(port));
        let server = async {
            let mut peer = listener.accept().await.unwrap().0;
            head(&mut peer).await;
            peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nevent: 1\n")
                .await
                .unwrap();
            let mut rest = Vec::new();
            let _ = peer.read_to_end(&mut rest).await;
        };
        let (answer, ()) = tokio::join!(answer(Probe::Http(question)), server);
        assert!(passed(&answer, "200 OK"), "{answer:?}");
    });
}

#[test]
fn a_dropped_probe_closes_its_connection() {
    run(async {
        let (listener, port) = listener().await;
        let health = health(Probe::Http(get(Target::Own(port))), PATIENCE);
        let (container, engine) = (here(), Scripted::unused());
        let mut peer = tokio::select! {
            _ = ask(&health, &container, &engine) => panic!("nobody answered"),
            peer = async {
                let mut peer = listener.accept().await.unwrap().0;
                head(&mut peer).await;
                peer
            } => peer,
        };
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn https_with_and_without_authorities() {
    let dir = tempfile::tempdir().unwrap();
    let ours = certificate(dir.path(), "ours");
    let theirs = certificate(dir.path(), "theirs");
    let missing = dir.path().join("empty.pem");
    std::fs::write(&missing, "no certificate\n").unwrap();
    let tls = |ca_file: Option<&Path>, server_name: Option<&str>| Tls {
        ca_file: ca_file.map(Path::to_owned),
        server_name: server_name.map(str::to_owned),
    };
    let (ours, theirs) = (ours.as_path(), theirs.as_path());
    let table = [
        (tls(None, None), Ok("200 OK")),
        (tls(None, Some("whoever.example")), Ok("200 OK")),
        (tls(Some(ours), None), Ok("200 OK")),
        (tls(Some(ours), Some("ours.example")), Ok("200 OK")),
        (
            tls(Some(ours), Some("other.example")),
            Err("not valid for name"),
        ),
        (tls(Some(theirs), None), Err("UnknownIssuer")),
        (tls(Some(&missing), None), Err("no certificate in it")),
        (tls(None, Some("not a name")), Err("cannot be the name")),
    ];
    for (tls, expected) in table {
        let answer = run(async {
            let (listener, port) = listener().await;
            let mut question = get(Target::Own(port));
            question.tls = Some(tls.clone());
            let acceptor = acceptor(dir.path(), "ours");
            let server = tokio::task::spawn_local(async move {
                let peer = listener.accept().await.unwrap().0;
                // A probe that does not like the certificate says so and goes.
                if let Ok(peer) = acceptor.accept(peer).await {
                    serve(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            });
            let answer = answer(Probe::Http(question)).await;
            server.abort();
            answer
        });
        match expected {
            Ok(beginning) => assert!(passed(&answer, beginning), "{tls:?}: {answer:?}"),
            Err(part) => {
                let (Answer::Fail(text) | Answer::CannotAsk(text)) = &answer else {
                    panic!("{tls:?}: {answer:?}");
                };
                assert!(text.contains(part), "{tls:?}: {text}");
            }
        }
    }
}

/// Makes `NAME.pem` and `NAME.key` in `dir`: a certificate of its own for this machine's loopback.
fn certificate(dir: &Path, name: &str) -> PathBuf {
    let config = dir.join("openssl.cnf");
    std::fs::write(
        &config,
        format!(
            "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n\
             [dn]\nCN = {name}\n[ext]\nbasicConstraints = critical,CA:FALSE\n\
             subjectAltName = IP:127.0.0.1,DNS:{name}.example\n"
        ),
    )
    .unwrap();
    let pem = dir.join(format!("{name}.pem"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .arg("-config")
        .arg(&config)
        .arg("-out")
        .arg(&pem)
        .arg("-keyout")
        .arg(dir.join(format!("{name}.key")))
        .output()
        .expect("the package openssl is installed");
    assert!(output.status.success(), "{output:?}");
    pem
}

fn acceptor(dir: &Path, name: &str) -> TlsAcceptor {
    let chain = CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[test]
fn programs_in_the_container() {
    let ran = |code, output: &str| {
        Ok(Executed {
            code,
            output: output.to_owned(),
        })
    };
    let silent = || Err(Fault::NoAnswer("no answer to exec within 2 s".to_owned()));
    let cannot = |text: &str| Answer::CannotAsk(text.to_owned());
    let alive = || Some(Ok("Engine 1".to_owned()));
    let dead = || Some(Err(Fault::NoAnswer("connect: gone".to_owned())));
    let mute = cannot("the engine does not answer: no answer to exec within 2 s");
    let table = [
        (ran(0, "ignored"), None, None, 0),
        (ran(1, ""), None, Some(fail("exit code 1")), 0),
        (
            ran(2, "\r\n  \n db: \x1b[1mdown\x07\nmore\n"),
            None,
            Some(fail("exit code 2: db:  [1mdown")),
            0,
        ),
        (silent(), alive(), Some(fail("no answer within 2s")), 1),
        (silent(), dead(), Some(mute.clone()), 1),
        (silent(), None, Some(mute), 1),
        (
            Err(Fault::Refused("fork: no room".to_owned())),
            None,
            Some(fail("the engine cannot run the program: fork: no room")),
            0,
        ),
        (
            Err(Fault::NotFound("no such container: c1".to_owned())),
            None,
            Some(cannot("no such container: c1")),
            0,
        ),
    ];
    for (exec, version, expected, checks) in table {
        let shown = format!("{exec:?} {version:?}");
        let engine = Scripted::new(exec, version);
        let health = health(Probe::Exec(vec!["true".to_owned()]), Duration::from_secs(2));
        let answer = run(ask(&health, &here(), &engine));
        match expected {
            Some(expected) => assert_eq!(answer, expected, "{shown}"),
            None => assert!(passed(&answer, "exit code 0"), "{shown}: {answer:?}"),
        }
        assert_eq!(engine.asked.get(), checks, "{shown}");
    }
}

#[test]
fn a_strangers_text_is_tamed() {
    let table = [
        ("plain", 10, "plain"),
        ("", 10, ""),
        ("  both ends  ", 20, "both ends"),
        ("a\tb\u{1b}[0m\u{9b}c", 20, "a b [0m c"),
        ("\u{202e}evil\u{2028}x", 20, "evil x"),
        ("12345", 5, "12345"),
        ("123456", 5, "1234…"),
        ("ééééé", 3, "éé…"),
    ];
    for (text, limit, expected) in table {
        assert_eq!(tame(text, limit), expected, "{text:?}");
    }
}

#[test]
fn spans_are_short() {
    for (micros, text) in [
        (0, "0 us"),
        (999, "999 us"),
        (1_000, "1 ms"),
        (999_999, "999 ms"),
        (1_000_000, "1 s"),
        (1_550_000, "1.5 s"),
        (30_000_000, "30 s"),
    ] {
        assert_eq!(span(Duration::from_micros(micros)), text);
    }
}
