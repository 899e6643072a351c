use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};

use super::on;
use crate::testpg::Server;
use crate::{PgConfig, StoreError};

/// A self-signed certificate for a name, and its key.
fn certificate(name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut b = X509::builder().unwrap();
    b.set_version(2).unwrap();
    b.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap())
        .unwrap();
    b.set_subject_name(&subject).unwrap();
    b.set_issuer_name(&subject).unwrap();
    b.set_pubkey(&key).unwrap();
    b.set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    b.set_not_after(&Asn1Time::days_from_now(2).unwrap())
        .unwrap();
    let san = SubjectAlternativeName::new()
        .dns(name)
        .build(&b.x509v3_context(None, None))
        .unwrap();
    b.append_extension(san).unwrap();
    b.sign(&key, MessageDigest::sha256()).unwrap();
    (
        b.build().to_pem().unwrap(),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
}

#[tokio::test]
async fn tls_is_spoken_verified_and_refused() {
    let mut server = Server::start(false);
    let plain = server.cfg("postgres");
    let asked = PgConfig {
        ssl: true,
        host: "localhost".into(),
        ..plain.clone()
    };
    let refused = on(asked.clone()).ping().await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "a server without TLS: {refused:?}"
    );

    let data = server.data();
    let (cert, key) = certificate("localhost");
    std::fs::write(data.join("server.crt"), cert).unwrap();
    // Written over a file of Postgres' own, which has the owner and mode it wants for a key.
    std::fs::copy(data.join("PG_VERSION"), data.join("server.key")).unwrap();
    std::fs::write(data.join("server.key"), key).unwrap();
    let chown = std::process::Command::new("chown")
        .arg(format!("--reference={}", data.join("PG_VERSION").display()))
        .arg(data.join("server.key"))
        .status();
    assert!(chown.unwrap().success());
    let conf = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
    std::fs::write(data.join("postgresql.conf"), conf + "\nssl = on\n").unwrap();
    server.kill();
    server.again();

    let ca_file = Some(data.join("server.crt"));
    let verified = PgConfig {
        ssl_verify: true,
        ca_file: ca_file.clone(),
        ..asked.clone()
    };
    for (cfg, tls) in [
        (plain, false),
        (asked.clone(), true),
        (verified.clone(), true),
    ] {
        let store = on(cfg);
        let rows = store
            .pool()
            .query(
                "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(rows[0].get::<_, bool>(0), tls);
    }
    let unknown = PgConfig {
        ca_file: None,
        ..verified.clone()
    };
    let misnamed = PgConfig {
        host: "127.0.0.1".into(),
        ..verified
    };
    for cfg in [unknown, misnamed] {
        let got = on(cfg).ping().await;
        assert!(
            matches!(&got, Err(StoreError::Unavailable(t)) if t.contains("certificate")),
            "{got:?}"
        );
    }
}
