//! Recorded traffic of clients with a real Kong, played against a gateway of ours: every call must get the same status, and every
//! field that the client reads must be there with the same type. The recordings, and the tables that say what is read, are in
//! `konga-compat/`.

mod compare;
mod data;
mod player;

use anyhow::Context as _;
use silverback_testkit::gateway::Setup;

use crate::Outcome;
use data::Client;
use player::Player;

/// A certificate and its key, both PEM, as Konga sent them.
pub(super) fn certificate() -> anyhow::Result<(String, String)> {
    let konga = Client::load("konga")?;
    let sent = konga.calls.iter().find(|c| c.is("POST /certificates"));
    let body = sent
        .and_then(|call| call.body.as_ref())
        .context("Konga made a certificate")?;
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Ok((text("cert"), text("key")))
}

async fn play(client: &str) -> Outcome {
    let client = Client::load(client)?;
    // Two proxy listeners, as the Kong had that was recorded.
    let gateway = Setup::new().tls().start().await?;
    let mut player = Player::new(&gateway, &client);
    for call in &client.calls {
        player.play(call).await?;
    }
    let report = player.report();
    println!("{}", report.summary());
    assert!(
        report.problems.is_empty(),
        "{}\n{}",
        report.summary(),
        report.problems.join("\n")
    );
    assert!(
        report.outdated.is_empty(),
        "take these out of exceptions.json, they work now or match nothing:\n{}",
        report.outdated.join("\n")
    );
    Ok(())
}

#[tokio::test]
async fn konga_notices_no_difference() -> Outcome {
    play("konga").await
}

#[tokio::test]
async fn kong_manager_notices_no_difference() -> Outcome {
    play("kong-manager").await
}
