//! Who may: tokens, their roles, and client certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, header};
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use silverback_store::{AdminToken, PgConfig, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{Api, Got, builder, config};
use crate::{Certificate, Listen, NewToken, Tokens};

pub(super) const TOKEN: &str = "kong-admin-token";

/// Makes a token known and answers it.
fn add(tokens: &mut Vec<AdminToken>, name: &str, role: Role) -> String {
    let new = NewToken::generate().unwrap();
    tokens.push(AdminToken {
        name: name.into(),
        role,
        lookup: new.lookup,
        hash: new.hash,
        created_at: 0,
    });
    new.text
}

/// An API that needs tokens: it, what knows them, and one of each role.
pub(super) async fn closed() -> (Api, Tokens, String, String) {
    let mut api = Api::new().await;
    let mut all = Vec::new();
    let reader = add(&mut all, "reader", Role::ReadOnly);
    let writer = add(&mut all, "writer", Role::ReadWrite);
    let tokens = Tokens::default();
    tokens.replace(all);
    let cfg = config(api.db.as_ref().unwrap().url());
    let server = builder(cfg).tokens(tokens.clone(), true).bind().unwrap();
    api.router = server.router();
    (api, tokens, reader, writer)
}

pub(super) async fn ask(
    api: &Api,
    method: Method,
    path: &str,
    header: (&str, &str),
    body: Value,
) -> Got {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header.0, header.1)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    api.raw(request).await
}

#[tokio::test]
async fn nobody_gets_in_without_a_token() {
    let (api, _, _, writer) = closed().await;
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/services"),
        (Method::GET, "/nowhere"),
        (Method::DELETE, "/"),
        (Method::POST, "/services"),
        (Method::POST, "/batch"),
        (Method::POST, "/schemas/services/validate"),
    ] {
        let got = ask(&api, method, path, ("x", "y"), json!({ "host": "h" })).await;
        assert_eq!(
            got.header("www-authenticate"),
            "Bearer realm=\"silverback\""
        );
        assert_eq!(got.header("access-control-allow-origin"), "*");
        assert_eq!(got.expect(401), json!({ "message": "Unauthorized" }));
    }
    for wrong in ["", "x", "sbat_0_0", &writer[..writer.len() - 1]] {
        assert_eq!(
            ask(&api, Method::GET, "/", (TOKEN, wrong), json!({}))
                .await
                .status,
            401
        );
    }
    // Browsers ask first, without it.
    assert_eq!(api.bare(Method::OPTIONS, "/services").await.status, 204);
    let made = ask(
        &api,
        Method::POST,
        "/services",
        (TOKEN, &writer),
        json!({ "host": "h" }),
    )
    .await;
    assert_eq!(made.status, 201);
}

#[tokio::test]
async fn a_token_that_reads_does_not_write() {
    let (api, _, reader, writer) = closed().await;
    let as_reader = (TOKEN, reader.as_str());
    let service = json!({ "name": "s", "host": "h" });
    ask(
        &api,
        Method::POST,
        "/services",
        (TOKEN, &writer),
        service.clone(),
    )
    .await
    .expect(201);
    for path in [
        "/services",
        "/services/s",
        "/revisions",
        "/revisions/1",
        "/status",
    ] {
        assert_eq!(
            ask(&api, Method::GET, path, as_reader, json!({}))
                .await
                .status,
            200,
            "{path}"
        );
    }
    let validate = ask(
        &api,
        Method::POST,
        "/schemas/services/validate",
        as_reader,
        service.clone(),
    );
    assert_eq!(validate.await.status, 200);
    for (method, path) in [
        (Method::POST, "/services"),
        (Method::POST, "/services?dry_run=true"),
        (Method::PATCH, "/services/s"),
        (Method::PUT, "/services/s"),
        (Method::DELETE, "/services/s"),
        (Method::POST, "/batch"),
        (Method::POST, "/revisions/1/rollback"),
    ] {
        let got = ask(&api, method, path, as_reader, service.clone()).await;
        assert_eq!(
            got.expect(403),
            json!({ "message": "this token may only read" }),
            "{path}"
        );
    }
    let revision = ask(&api, Method::GET, "/revisions/1", as_reader, json!({}))
        .await
        .expect(200);
    assert_eq!(revision["who"], "token:writer");
}

#[tokio::test]
async fn konga_gets_in_with_each_type_of_connection() {
    let (api, tokens, _, writer) = closed().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = json!({ "iss": writer, "nbf": now - 60, "exp": now + 120 });
    let jwt = crate::auth::test_jwt("HS256", &writer, &claims);
    let forged = crate::auth::test_jwt("HS256", "guess", &claims);
    let basic = STANDARD.encode(format!("konga:{writer}"));
    let all = [
        ("apikey", writer.clone(), 200),
        ("authorization", format!("Basic {basic}"), 200),
        ("authorization", format!("Bearer {jwt}"), 200),
        ("authorization", format!("Bearer {writer}"), 200),
        ("authorization", format!("Bearer {forged}"), 401),
    ];
    for (name, value, status) in &all {
        let got = ask(&api, Method::GET, "/", (name, value), json!({})).await;
        assert_eq!(got.status, *status, "{name}: {value}");
    }
    tokens.replace(Vec::new());
    for (name, value, _) in &all {
        let got = ask(&api, Method::GET, "/", (name, value), json!({})).await;
        assert_eq!(got.status, 401, "{name}: {value}");
    }
}

#[tokio::test]
async fn tokens_that_are_known_work_without_the_database() {
    let cfg = PgConfig {
        port: 1,
        ..PgConfig::default()
    };
    let tokens = Tokens::default();
    let server = builder(cfg).tokens(tokens.clone(), true).bind().unwrap();
    let api = Api {
        router: server.router(),
        db: None,
    };
    let mut all = Vec::new();
    let token = add(&mut all, "a", Role::ReadOnly);
    let get = async |path| {
        ask(&api, Method::GET, path, (TOKEN, &token), json!({}))
            .await
            .status
    };
    // Nobody knows yet which tokens there are.
    assert_eq!(get("/endpoints").await, 503);
    tokens.replace(all);
    assert_eq!(
        (get("/endpoints").await, get("/services").await),
        (200, 503)
    );
}

#[tokio::test]
async fn where_none_is_needed_a_token_still_says_who_it_is() {
    let mut api = Api::new().await;
    let mut all = Vec::new();
    let reader = add(&mut all, "reader", Role::ReadOnly);
    let writer = add(&mut all, "writer", Role::ReadWrite);
    let tokens = Tokens::default();
    tokens.replace(all);
    let cfg = config(api.db.as_ref().unwrap().url());
    api.router = builder(cfg).tokens(tokens, false).bind().unwrap().router();
    let post = async |value: &str| {
        let service = json!({ "host": "h" });
        ask(
            &api,
            Method::POST,
            "/services",
            ("authorization", value),
            service,
        )
        .await
        .status
    };
    assert_eq!(post(&format!("Bearer {writer}")).await, 201);
    assert_eq!(post(&format!("Bearer {reader}")).await, 403);
    assert_eq!(post("Bearer somebody-elses").await, 201);
    let all = api.get("/revisions").await.expect(200);
    let who: Vec<_> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["who"])
        .collect();
    assert_eq!(who, [&json!("unknown"), &json!("token:writer")]);
}

/// A certificate (PEM) and its key for `name`, from `issuer`.
fn certificate(name: &str, issuer: &Issuer<'_, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let made = params.signed_by(&key, issuer).unwrap();
    (made.pem(), key.serialize_pem())
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    (own.pem(), Issuer::new(params, key))
}

/// The status of `GET /endpoints` over TLS; `None` when the handshake or the first answer fails.
async fn over_tls(
    addr: SocketAddr,
    own: Option<&(String, String)>,
    token: Option<&str>,
) -> Option<u16> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    if let Some((cert, key)) = own {
        let cert = X509::from_pem(cert.as_bytes()).unwrap();
        let key = PKey::private_key_from_pem(key.as_bytes()).unwrap();
        connector.set_certificate(&cert).unwrap();
        connector.set_private_key(&key).unwrap();
    }
    let ssl = connector
        .build()
        .configure()
        .unwrap()
        .into_ssl("localhost")
        .unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
    Pin::new(&mut stream).connect().await.ok()?;
    let token = token
        .map(|t| format!("{TOKEN}: {t}\r\n"))
        .unwrap_or_default();
    let text = format!("GET /endpoints HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.ok()?;
    String::from_utf8_lossy(&all).get(9..12)?.parse().ok()
}

#[tokio::test]
async fn a_certificate_of_ours_lets_in_and_others_do_not() {
    let (ca, issuer) = authority();
    let (_, strange) = authority();
    let own = certificate("ops", &issuer);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let tokens = Tokens::default();
    let mut all = Vec::new();
    let token = add(&mut all, "a", Role::ReadOnly);
    tokens.replace(all);
    let (cert, key) = certificate("server", &issuer);
    let cfg = PgConfig {
        port: 1,
        ..PgConfig::default()
    };
    let server = builder(cfg)
        .listen(Listen {
            tls: true,
            ..Listen::plain(any)
        })
        .certificate(Certificate {
            chain: cert.into_bytes(),
            key: key.into_bytes(),
        })
        .client_authorities(ca.into_bytes())
        .tokens(tokens, false)
        .bind()
        .unwrap();
    let addr = server.addrs()[0];
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let done = tokio::spawn(server.run(async move { drop(stopped.await) }));
    assert_eq!(over_tls(addr, Some(&own), None).await, Some(200));
    assert_eq!(over_tls(addr, None, None).await, Some(401));
    assert_eq!(over_tls(addr, None, Some(&token)).await, Some(200));
    let other = certificate("ops", &strange);
    assert_eq!(over_tls(addr, Some(&other), Some(&token)).await, None);
    drop(stop);
    done.await.unwrap().unwrap();
}
