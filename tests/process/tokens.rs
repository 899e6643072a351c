//! Tokens for the Admin API, made and revoked at the command line.

use std::time::Duration;

use serde_json::json;
use silverback_testkit::gateway::{Executable, eventually};

use super::{err, program, succeeds};
use crate::Outcome;

#[tokio::test]
async fn a_token_opens_all_nodes_until_it_is_revoked() -> Outcome {
    let settings = [("admin_require_token", "on")];
    let (node, database) = Executable::prepare(program(), &settings).await?;
    // So seldom that only a notification can be in time.
    let other = Executable::on(
        program(),
        database.url(),
        &[settings[0], ("db_update_frequency", "3600")],
    )?;
    let conf = node.config_file().display().to_string();
    let run = async |args: &[&str]| {
        let all = [&["admin", "token"], args, &["-c", &conf]].concat();
        node.cli(&all).await
    };
    let made = succeeds(&run(&["create", "ci"]).await?);
    let token = made.trim().to_owned();
    let twice = run(&["create", "ci"]).await?;
    assert_eq!(twice.status.code(), Some(1));
    assert!(err(&twice).contains("there is a token 'ci' already"));

    let _running = (node.start().await?, other.start().await?);
    let status = async |node: &Executable, token: &str| {
        let call = node
            .admin()
            .get("/services")
            .header("Kong-Admin-Token", token);
        anyhow::Ok(call.send().await?.status)
    };
    for node in [&node, &other] {
        assert_eq!(status(node, &token).await?, 200);
        assert_eq!(status(node, "sbat_0_0").await?, 401);
    }
    // Made while the nodes run.
    let made = succeeds(&run(&["create", "looker", "--role", "read-only"]).await?);
    let looker = made.trim();
    for node in [&node, &other] {
        eventually("the token is known", Duration::from_secs(10), || async {
            Ok((status(node, looker).await? == 200).then_some(()))
        })
        .await?;
    }
    let service = json!({"name": "s", "host": "a.test"});
    let post = |token: &str| {
        let call = other.admin().call("POST", "/services").json(&service);
        call.header("Kong-Admin-Token", token).send()
    };
    assert_eq!(post(looker).await?.status, 403);
    assert_eq!(post(&token).await?.status, 201);

    let list = succeeds(&run(&["list"]).await?);
    assert!(list.contains("ci ") && list.contains("read-only"), "{list}");
    assert!(!list.contains(&token[20..]), "{list}");
    succeeds(&run(&["revoke", "ci"]).await?);
    assert_eq!(run(&["revoke", "ci"]).await?.status.code(), Some(1));
    for node in [&node, &other] {
        eventually(
            "the token is worthless",
            Duration::from_secs(10),
            || async { Ok((status(node, &token).await? == 401).then_some(())) },
        )
        .await?;
        assert_eq!(status(node, looker).await?, 200);
    }
    Ok(())
}
