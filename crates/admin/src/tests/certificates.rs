//! Certificates with their server names, authorities, vaults, keys.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use super::harness::{Api, config, entities};

const ID: &str = "00000008-0000-4000-8000-000000000001";
const OTHER: &str = "00000008-0000-4000-8000-000000000002";

pub(super) fn pair(authority: bool) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

async fn certificate(api: &Api, id: &str, snis: Value) -> Value {
    let (cert, key) = pair(false);
    let body = json!({ "id": id, "cert": cert, "key": key, "snis": snis });
    api.post("/certificates", body).await.expect(201)
}

#[tokio::test]
async fn names_come_and_go_with_their_certificate() {
    let api = Api::new().await;
    let made = certificate(&api, ID, json!(["b.test", "a.test"])).await;
    assert_eq!(made["snis"], json!(["a.test", "b.test"]));
    assert_eq!(api.get("/certificates/a.test").await.expect(200), made);
    assert_eq!(
        api.get("/certificates").await.expect(200),
        json!({ "data": [made], "next": null })
    );
    let sni = api.get("/snis/b.test").await.expect(200);
    assert_eq!(sni["certificate"], json!({ "id": ID }));

    let changed = api
        .patch(
            "/certificates/a.test",
            json!({ "snis": ["a.test", "c.test"] }),
        )
        .await
        .expect(200);
    assert_eq!(changed["snis"], json!(["a.test", "c.test"]));
    api.get("/snis/b.test").await.expect(404);
    let untouched = api
        .patch(&format!("/certificates/{ID}"), json!({ "tags": ["t"] }))
        .await
        .expect(200);
    assert_eq!(untouched["snis"], json!(["a.test", "c.test"]));

    assert_eq!(api.delete("/certificates/c.test").await, 204);
    assert_eq!(
        api.get("/snis").await.expect(200),
        json!({ "data": [], "next": null })
    );
    assert_eq!(
        api.get("/certificates/c.test").await.expect(404),
        json!({ "message": "SNI not found" })
    );
}

#[tokio::test]
async fn a_name_belongs_to_one_certificate() {
    let api = Api::new().await;
    certificate(&api, ID, json!(["a.test"])).await;
    let (cert, key) = pair(false);
    let body = |snis: Value| json!({ "id": OTHER, "cert": cert, "key": key, "snis": snis });
    let refused = api
        .post("/certificates", body(json!(["b.test", "a.test"])))
        .await
        .expect(400);
    assert_eq!(
        refused["fields"]["snis"],
        format!("a.test already associated with existing certificate '{ID}'")
    );
    let twice = api
        .post("/certificates", body(json!(["b.test", "b.test"])))
        .await
        .expect(400);
    assert_eq!(twice["fields"]["snis"], "b.test is duplicated");
    let bad = api
        .post("/certificates", body(json!(["bad name"])))
        .await
        .expect(400);
    assert_eq!(bad["name"], "invalid unique name");
    api.get(&format!("/certificates/{OTHER}")).await.expect(404);
    api.get("/snis/b.test").await.expect(404);
}

#[tokio::test]
async fn a_put_replaces_the_names_too() {
    let api = Api::new().await;
    certificate(&api, ID, json!(["a.test", "b.test"])).await;
    let (cert, key) = pair(false);
    let body = json!({ "cert": cert, "key": key, "snis": ["c.test"] });
    let named = api.put("/certificates/a.test", body).await.expect(200);
    assert_eq!(
        (&named["id"], &named["snis"]),
        (&json!(ID), &json!(["a.test", "c.test"]))
    );
    let body = json!({ "cert": cert, "key": key });
    let path = format!("/certificates/{ID}");
    let bare = api.put(&path, body).await.expect(200);
    assert_eq!(bare["snis"], json!([]));
}

#[tokio::test]
async fn a_certificate_that_a_service_shows_stays_with_its_names() {
    let api = Api::new().await;
    certificate(&api, ID, json!(["a.test"])).await;
    let service =
        json!({ "name": "s", "url": "https://s.test", "client_certificate": { "id": ID } });
    api.post("/services", service).await.expect(201);
    let path = format!("/certificates/{ID}");
    let refused = api.bare(http::Method::DELETE, &path).await.expect(400);
    assert_eq!(
        refused["message"],
        "an existing 'services' entity references this 'certificates' entity"
    );
    api.get("/snis/a.test").await.expect(200);
    let hop = api.get("/services/s/client_certificate").await.expect(200);
    assert_eq!(hop["snis"], json!(["a.test"]));
    let below = api.get(&format!("{path}/services")).await.expect(200);
    assert_eq!(below["data"][0]["name"], "s");
}

#[tokio::test]
async fn keys_must_be_those_of_their_certificates() {
    let api = Api::new().await;
    let ((cert, key), (_, other)) = (pair(false), pair(false));
    let refused = api
        .post("/certificates", json!({ "cert": cert, "key": other }))
        .await
        .expect(400);
    assert_eq!(
        refused["fields"]["@entity"],
        json!(["certificate does not match key"])
    );
    let refused = api
        .post("/certificates", json!({ "cert": "x", "key": "y" }))
        .await
        .expect(400);
    let text = |f: &str| refused["fields"][f].as_str().unwrap().to_owned();
    assert!(text("cert").starts_with("invalid certificate: x509.new: error:680007B:asn1"));
    assert!(text("key").starts_with("invalid key: pkey.new:load_key: error:1E08010C:DECODER"));
    let same_kind = json!({ "cert": cert, "key": key, "cert_alt": cert, "key_alt": key });
    let refused = api.post("/certificates", same_kind).await.expect(400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("different type")
    );
}

#[tokio::test]
async fn authorities_are_known_by_their_digest_and_stay_while_trusted() {
    let api = Api::new().await;
    let (cert, _) = pair(true);
    let made = api
        .post(
            "/ca_certificates",
            json!({ "id": ID, "cert": cert, "cert_digest": "mine" }),
        )
        .await
        .expect(201);
    assert_eq!(made["cert_digest"].as_str().unwrap().len(), 64);
    api.post("/ca_certificates", json!({ "cert": cert }))
        .await
        .expect(409);
    let path = format!("/ca_certificates/{ID}");
    let changed = api
        .patch(&path, json!({ "cert_digest": "x" }))
        .await
        .expect(200);
    assert_eq!(changed["cert_digest"], made["cert_digest"]);
    let refused = api
        .post("/ca_certificates", json!({ "cert": pair(false).0 }))
        .await
        .expect(400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("\"CA\" basic constraint")
    );

    let service = json!({ "name": "s", "url": "https://s.test", "ca_certificates": [ID] });
    let service = api.post("/services", service).await.expect(201);
    let refused = api.bare(http::Method::DELETE, &path).await.expect(400);
    assert_eq!(
        refused["message"],
        format!(
            "ca certificate {ID} is still referenced by services (id = {})",
            service["id"].as_str().unwrap()
        )
    );
    assert_eq!(api.delete("/services/s").await, 204);
    assert_eq!(api.delete(&path).await, 204);
}

#[tokio::test]
async fn a_vaults_config_depends_on_its_kind() {
    let api = Api::new().await;
    let made = api
        .put(
            "/vaults/my-env",
            json!({ "name": "env", "config": { "prefix": "X_" } }),
        )
        .await
        .expect(200);
    assert_eq!(made["config"], json!({ "prefix": "X_" }));
    let changed = api
        .patch("/vaults/my-env", json!({ "tags": ["t"] }))
        .await
        .expect(200);
    assert_eq!(changed["config"], json!({ "prefix": "X_" }));
    let refused = api
        .patch("/vaults/my-env", json!({ "config": { "foo": 1 } }))
        .await
        .expect(400);
    assert_eq!(
        refused["fields"],
        json!({ "config": { "foo": "unknown field" } })
    );
    let refused = api
        .post("/vaults", json!({ "name": "nope", "prefix": "a-b" }))
        .await
        .expect(400);
    assert_eq!(refused["fields"]["name"], "vault 'nope' is not installed");
    api.get("/schemas/vaults/env").await.expect(200);
    assert_eq!(
        api.get("/schemas/vaults/nope").await.message(),
        "No vault named 'nope'"
    );
}

#[tokio::test]
async fn keys_live_in_sets_and_are_unique_there() {
    let api = Api::new().await;
    api.put("/key-sets/s", json!({})).await.expect(200);
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    });
    let body = |name: &str| json!({ "name": name, "kid": "k", "jwk": jwk.to_string() });
    api.post("/key-sets/s/keys", body("a")).await.expect(201);
    api.post("/keys", body("b")).await.expect(201);
    let taken = api.post("/keys", body("c")).await.expect(409);
    assert_eq!(taken["fields"], json!({ "kid": "k", "set": null }));
    assert_eq!(api.get("/keys/a/set").await.expect(200)["name"], "s");
    assert_eq!(api.delete("/key-sets/s").await, 204);
    api.get("/keys/a").await.expect(404);
    let other = json!({ "kid": "z", "jwk": jwk.to_string() });
    assert_eq!(
        api.post("/keys", other).await.expect(400)["fields"]["@entity"],
        json!(["kid in jwk.kid must be equal to keys.kid"])
    );
}

#[tokio::test]
async fn what_kong_does_not_have_is_not_there() {
    let api = Api::new().await;
    for path in ["/targets", "/snis/a/certificate", "/workspaces"] {
        assert_eq!(
            api.get(path).await.expect(404),
            json!({ "message": "Not found" })
        );
    }
    for path in [
        "/filter-chains",
        "/routes/r/filter-chains",
        "/routes/r/filters/all",
    ] {
        assert_eq!(
            api.get(path).await.expect(400)["message"],
            "this endpoint is only available when wasm is enabled"
        );
    }
    api.get("/schemas/workspaces").await.expect(200);
    // Nor for those who ask what can be done there.
    for (path, status) in [("/targets", 404), ("/filter-chains", 400)] {
        api.bare(http::Method::OPTIONS, path).await.expect(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_meanwhile_is_not_taken_away() {
    let api = Api::new().await;
    certificate(&api, ID, json!(["a.test"])).await;
    certificate(&api, OTHER, json!([])).await;
    let db = api.db.as_ref().unwrap();
    let store = silverback_store::Store::new(config(db.url()), entities()).unwrap();
    let snis = entities().into_iter().find(|d| d.name == "snis").unwrap();
    let mover = store.begin().await.unwrap();
    let to_other = |old: &silverback_store::Row| {
        let mut new = old.clone();
        new.insert("certificate".into(), json!({ "id": OTHER }));
        Ok::<_, ()>(new)
    };
    let key = silverback_store::Key::Unique("name", "a.test");
    let moved = mover
        .store()
        .update_with(&snis, &key, None, to_other)
        .await
        .unwrap();
    assert!(moved.is_some());
    let waits = || {
        let sql = "select count(*) from pg_stat_activity \
             where datname = current_database() and wait_event_type = 'Lock'";
        db.sql(sql).unwrap().trim() != "0"
    };
    let path = format!("/certificates/{ID}");
    let (cert, key) = pair(false);
    let put = api.put(&path, json!({ "cert": cert, "key": key, "snis": [] }));
    let commit = async {
        while !waits() {
            tokio::task::yield_now().await;
        }
        mover.commit().await.unwrap();
    };
    let (put, ()) = tokio::join!(put, commit);
    assert_eq!(put.expect(200)["snis"], json!([]));
    let sni = api.get("/snis/a.test").await.expect(200);
    assert_eq!(sni["certificate"], json!({ "id": OTHER }));
}
