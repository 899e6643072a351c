//! Declarative configuration: a node without a database, and a database imported and exported.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Executable, Gateway, Setup, eventually};
use silverback_testkit::process;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(10);

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_silverback-under-test"))
}

/// A service with a route that wants a key, and a consumer who has one.
fn file(upstream: &Upstream, path: &str) -> String {
    format!(
        "
_format_version: '3.0'
services:
- name: s
  url: {}
  tags: [mine]
  routes:
  - name: r
    paths: [{path}]
    plugins:
    - name: key-auth
consumers:
- username: alice
  keyauth_credentials:
  - key: secret
",
        upstream.url()
    )
}

/// What a call with the key is answered.
async fn status(gateway: &Gateway, path: &str) -> anyhow::Result<u16> {
    let call = gateway.proxy().get(path).header("apikey", "secret");
    Ok(call.send().await?.status)
}

async fn serves(gateway: &Gateway, path: &str, wanted: u16) -> Outcome {
    eventually("it is served", PATIENCE, || async {
        Ok((status(gateway, path).await? == wanted).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_node_without_a_database_serves_its_file_and_takes_another() -> Outcome {
    let upstream = Upstream::start().await?;
    let prefix = process::temporary("silverback-dbless-");
    let setup = Setup::new().set("database", "off").prefix(&prefix);
    let first = setup
        .clone()
        .set("declarative_config_string", &file(&upstream, "/one"))
        .start()
        .await?;
    assert_eq!(status(&first, "/one").await?, 200);
    assert_eq!(first.proxy().get("/one").send().await?.status, 401);

    // Reading is as ever, in pages, by names and by tags.
    let admin = first.admin();
    let service = admin.get("/services/s").expect(200).await?.json();
    assert_eq!(service["tags"], json!(["mine"]));
    let page = admin.get("/services/s/routes").expect(200).await?.json();
    assert_eq!(page["data"][0]["service"]["id"], service["id"]);
    let tagged = admin.get("/tags/mine").expect(200).await?.json();
    assert_eq!(tagged["data"][0]["entity_id"], service["id"]);
    let keys = admin
        .get("/consumers/alice/key-auth")
        .expect(200)
        .await?
        .json();
    assert_eq!(keys["data"][0]["key"], "secret");
    let root = admin.get("/").expect(200).await?.json();
    assert_eq!(root["configuration"]["database"], "off");
    let hash = admin.get("/status").expect(200).await?.json()["configuration_hash"].clone();
    assert_eq!(hash.as_str().map(str::len), Some(32));

    // What is wrong changes nothing.
    let wrong = json!({ "config": "_format_version: '3.0'\nservices: [{port: -1}]" });
    let answer = admin
        .post("/config?flatten_errors=1", &wrong)
        .expect(400)
        .await?
        .json();
    assert_eq!(answer["code"], 14);
    assert_eq!(answer["flattened_errors"][0]["entity_type"], "service");
    assert_eq!(status(&first, "/one").await?, 200);

    // Another configuration takes the place of the whole.
    let config = json!({ "config": file(&upstream, "/two") });
    let answer = admin
        .post("/config?check_hash=1", &config)
        .expect(201)
        .await?
        .json();
    assert_eq!(
        answer["services"][service["id"].as_str().context("an id")?]["name"],
        "s"
    );
    serves(&first, "/two", 200).await?;
    assert_eq!(status(&first, "/one").await?, 404);
    admin
        .post("/config?check_hash=1", &config)
        .expect(304)
        .await?;

    let exported = admin.get("/config").expect(200).await?.json();
    let exported = exported["config"].as_str().context("a text")?.to_owned();
    assert!(
        exported.starts_with("_format_version: '3.0'\n_transform: false\n"),
        "{exported}"
    );
    first.stop(Duration::ZERO).await?;

    // A restart without a file finds what was given last, and what was exported stands for the same.
    let second = setup.start().await?;
    assert_eq!(status(&second, "/two").await?, 200);
    let empty = json!({ "_format_version": "3.0" });
    assert_eq!(
        second
            .admin()
            .post("/config", &empty)
            .expect(201)
            .await?
            .json(),
        json!({})
    );
    serves(&second, "/two", 404).await?;
    second
        .admin()
        .post("/config", &json!({ "config": exported }))
        .expect(201)
        .await?;
    serves(&second, "/two", 200).await?;
    let again = second.admin().get("/services/s").expect(200).await?.json();
    assert_eq!(again["id"], service["id"]);
    drop(second);
    std::fs::remove_dir_all(prefix)?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_wrong_keeps_the_node_from_starting() -> Outcome {
    let refused = Setup::new()
        .set("database", "off")
        .set(
            "declarative_config_string",
            "{_format_version: '3.0', services: [{name: s}]}",
        )
        .start()
        .await;
    let text = refused.err().context("it started")?.to_string();
    assert_eq!(
        text,
        "error parsing declarative string:\nin 'services':\n  - in entry 1 of 'services':\n    in 'host': required field missing"
    );
    Ok(())
}

#[tokio::test]
async fn with_a_database_there_is_no_config() -> Outcome {
    let gateway = Gateway::start().await?;
    let text = "this endpoint is only available when Kong is configured to not use a database";
    for method in ["GET", "POST"] {
        let answer = gateway.admin().call(method, "/config").expect(400).await?;
        assert_eq!(answer.json(), json!({ "message": text }));
    }
    let options = gateway
        .admin()
        .call("OPTIONS", "/config")
        .expect(204)
        .await?;
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    Ok(())
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[out.as_slice(), err].concat()).into_owned()
}

/// All rows that two nodes have, by path.
async fn rows(node: &Executable) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for path in [
        "/services",
        "/routes",
        "/plugins",
        "/consumers",
        "/key-auths",
        "/basic-auths",
        "/acls",
        "/upstreams",
        "/upstreams/up/targets",
        "/certificates",
        "/snis",
        "/vaults",
    ] {
        let mut page = node.admin().get(path).expect(200).await?.json();
        let data = page["data"].as_array_mut().context("a page")?;
        for row in data {
            // The moment of the import.
            row["updated_at"] = Value::Null;
            all.push(row.take());
        }
    }
    Ok(all)
}

#[tokio::test]
async fn what_one_database_exports_another_imports_and_answers_the_same() -> Outcome {
    let upstream = Upstream::start().await?;
    let (one, _one) = Executable::prepare(program(), &[]).await?;
    let (other, _other) = Executable::prepare(program(), &[]).await?;
    let _running = (one.start().await?, other.start().await?);
    let folder = process::temporary("silverback-export-");
    std::fs::create_dir_all(&folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    let more = "
upstreams:
- name: up
  targets: [{target: 10.0.0.1}, {target: 10.0.0.2:81, weight: 5}]
vaults: [{name: env, prefix: my-env, config: {prefix: A_}}]
plugins: [{name: correlation-id, config: {header_name: X-Id}, tags: ['on', '1']}]
basicauth_credentials: [{consumer: alice, username: alice, password: wonderland}]
acls: [{consumer: alice, group: admins}]
";
    std::fs::write(path("a.yml"), file(&upstream, "/one") + more)?;

    let parsed = cli(&one, &["config", "parse", &path("a.yml")]).await?;
    assert_eq!(
        (parsed.status.code(), text(&parsed).as_str()),
        (Some(0), "parse successful\n")
    );
    let imported = cli(&one, &["config", "db_import", &path("a.yml")]).await?;
    assert_eq!(
        (imported.status.code(), text(&imported).as_str()),
        (
            Some(0),
            "parse successful, beginning import\nimport successful\n"
        )
    );
    // The node that runs serves it, from one change.
    eventually("the import is served", PATIENCE, || async {
        let call = one.proxy().get("/one").header("apikey", "secret");
        Ok((call.send().await?.status == 200).then_some(()))
    })
    .await?;
    // Once more is the same: ids follow from the file.
    let again = cli(&one, &["config", "db_import", &path("a.yml")]).await?;
    assert!(again.status.success(), "{}", text(&again));
    let before = rows(&one).await?;
    assert_eq!(before.len(), 12, "{before:#?}");
    // Hashed once, not again by the other.
    let hashed = before.iter().find(|row| row["password"].is_string());
    let hashed = hashed.context("a password")?["password"].clone();
    assert_eq!(hashed.as_str().map(str::len), Some(40), "{hashed}");

    let exported = cli(&one, &["config", "db_export", &path("b.yml")]).await?;
    assert!(exported.status.success(), "{}", text(&exported));
    let twice = cli(&one, &["config", "db_export", &path("b.yml")]).await?;
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice).contains("b.yml already exists. Will not overwrite it."));
    let imported = cli(&other, &["config", "db_import", &path("b.yml")]).await?;
    assert!(imported.status.success(), "{}", text(&imported));
    assert_eq!(rows(&other).await?, before);

    // What is wrong is told as Kong tells it, and nothing is written.
    std::fs::write(
        path("c.yml"),
        "_format_version: '1.1'\nservices: [{name: x, host: 1}]\n",
    )?;
    let wrong = cli(&one, &["config", "db_import", &path("c.yml")]).await?;
    assert_eq!(wrong.status.code(), Some(1));
    let told = text(&wrong);
    assert!(
        told.contains("Error: Failed parsing:\nin 'services':"),
        "{told}"
    );
    assert!(told.contains("in 'host': expected a string"), "{told}");
    let taken = "_format_version: '3.0'\nservices: [{name: new, host: h}, {name: s, host: h, id: 00000001-0000-4000-8000-000000000001}]\n";
    std::fs::write(path("d.yml"), taken)?;
    let wrong = cli(&one, &["config", "db_import", &path("d.yml")]).await?;
    let told = text(&wrong);
    assert!(
        told.contains("Error: Failed importing:\nUNIQUE violation detected on '{name=\"s\"}'"),
        "{told}"
    );
    one.admin().get("/services/new").expect(404).await?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

async fn cli(node: &Executable, args: &[&str]) -> anyhow::Result<Output> {
    let conf = node.config_file().display().to_string();
    node.cli(&[args, &["-c", &conf]].concat()).await
}
