//! The command line, with the program as a process.

mod tokens;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use silverback_testkit::gateway::{Executable, cli};
use silverback_testkit::postgres::Server;
use silverback_testkit::process::Signal;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_silverback-under-test"))
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        out(output),
        err(output)
    );
    out(output)
}

/// A service and its route, over the Admin API of a process.
async fn configure(node: &Executable, upstream: &Upstream) -> Outcome {
    let admin = node.admin();
    let service = json!({"name": "s", "url": upstream.url()});
    admin
        .call("POST", "/services")
        .json(&service)
        .expect(201)
        .await?;
    let route = json!({"paths": ["/"]});
    admin
        .call("POST", "/services/s/routes")
        .json(&route)
        .expect(201)
        .await?;
    served(node).await
}

async fn served(node: &Executable) -> Outcome {
    let limit = Duration::from_secs(10);
    silverback_testkit::gateway::eventually("the route is served", limit, || async {
        Ok((node.proxy().get("/").send().await?.status == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn versions_are_told() -> Outcome {
    let version = cli(program(), &["version"], &[]).await?;
    assert_eq!(succeeds(&version).trim(), silverback::VERSION);
    let all = succeeds(&cli(program(), &["version", "-a"], &[]).await?);
    for name in ["Silverback", "3.9.1", "Pingora", "OpenSSL", "key-auth"] {
        assert!(all.contains(name), "{all}");
    }
    Ok(())
}

#[tokio::test]
async fn configurations_are_checked_and_shown_without_secrets() -> Outcome {
    let folder = silverback_testkit::process::temporary("silverback-conf-");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("s.conf");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "pg_password = hunter2\nlog_level = warn\n")?;
    let checked = cli(program(), &["check", path], &[]).await?;
    assert!(succeeds(&checked).contains("is valid"));
    let shown = succeeds(&cli(program(), &["config", "show", "-c", path], &[]).await?);
    assert!(shown.contains("log_level = warn") && !shown.contains("hunter2"));
    let env = [
        ("SILVERBACK_LOG_LEVEL", "error"),
        ("KONG_PG_HOST", "db.test"),
    ];
    let shown = succeeds(&cli(program(), &["config", "show", "-c", path], &env).await?);
    assert!(shown.contains("log_level = error") && shown.contains("pg_host = db.test"));

    std::fs::write(&file, "pg_port = many\nlog_level = loud\n")?;
    let checked = cli(program(), &["check", path], &[]).await?;
    assert_eq!(checked.status.code(), Some(1));
    let text = err(&checked);
    assert!(
        text.contains("pg_port") && text.contains("log_level"),
        "{text}"
    );
    let missing = cli(program(), &["check", "/no/such.conf"], &[]).await?;
    assert_eq!(missing.status.code(), Some(1));

    let default = succeeds(&cli(program(), &["config", "default"], &[]).await?);
    std::fs::write(&file, default)?;
    succeeds(&cli(program(), &["check", path], &[]).await?);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[tokio::test]
async fn migrations_are_run_listed_and_reset() -> Outcome {
    let database = Server::shared()?.database()?;
    let node = Executable::on(program(), database.url(), &[])?;
    let conf = node.config_file().display().to_string();
    let run = |action: &'static str| {
        let (node, conf) = (&node, conf.clone());
        async move { node.cli(&["migrations", action, "-c", &conf]).await }
    };
    assert_eq!(run("list").await?.status.code(), Some(3));
    let status: Value = serde_json::from_str(&succeeds(&run("status").await?))?;
    assert_eq!(status["needs_bootstrap"], true);
    let refused = node.cli(&["start", "-c", &conf]).await?;
    assert!(!refused.status.success());
    assert!(
        err(&refused).contains("silverback migrations bootstrap"),
        "{}",
        err(&refused)
    );

    succeeds(&run("bootstrap").await?);
    succeeds(&run("bootstrap").await?);
    assert_eq!(run("list").await?.status.code(), Some(0));
    succeeds(&run("up").await?);
    let status: Value = serde_json::from_str(&succeeds(&run("status").await?))?;
    assert_eq!(
        (&status["needs_bootstrap"], &status["new_migrations"]),
        (&json!(false), &json!([]))
    );

    // Nobody to ask: it is not done without being told twice.
    assert!(!run("reset").await?.status.success());
    assert_eq!(run("list").await?.status.code(), Some(0));
    succeeds(
        &node
            .cli(&["migrations", "reset", "--yes", "-c", &conf])
            .await?,
    );
    assert_eq!(run("list").await?.status.code(), Some(3));
    Ok(())
}

#[tokio::test]
async fn a_daemon_is_found_by_its_prefix() -> Outcome {
    let upstream = Upstream::start().await?;
    let (node, _database) = Executable::prepare(program(), &[]).await?;
    let conf = node.config_file().display().to_string();
    let prefix = node.prefix().display().to_string();
    let health = node.cli(&["health", "-p", &prefix]).await?;
    assert_eq!(health.status.code(), Some(1));

    let started = node.cli(&["start", "-c", &conf, "--daemon"]).await?;
    assert!(succeeds(&started).contains("Silverback started"));
    // It is ready, not merely started.
    node.proxy().get("/").expect(404).await?;
    configure(&node, &upstream).await?;
    let health = node.cli(&["health", "-p", &prefix]).await?;
    assert!(succeeds(&health).contains("healthy"));
    let twice = node.cli(&["start", "-c", &conf, "--daemon"]).await?;
    assert!(!twice.status.success());
    assert!(err(&twice).contains("already running"), "{}", err(&twice));

    let first = node.daemon();
    let restarted = node.cli(&["restart", "--daemon", "-p", &prefix]).await?;
    succeeds(&restarted);
    assert!(node.daemon().is_some() && node.daemon() != first);
    served(&node).await?;

    succeeds(&node.cli(&["stop", "-p", &prefix]).await?);
    assert_eq!(node.daemon(), None);
    assert!(node.proxy().connect().await.is_err());
    let again = node.cli(&["stop", "-p", &prefix]).await?;
    assert!(!again.status.success());
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_so() -> Outcome {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let (node, _database) = Executable::prepare(program(), &[("proxy_listen", &address)]).await?;
    let conf = node.config_file().display().to_string();
    let started = node.cli(&["start", "-c", &conf, "--daemon"]).await?;
    assert!(!started.status.success());
    assert!(err(&started).contains(&address), "{}", err(&started));
    assert_eq!(node.daemon(), None);
    Ok(())
}

#[tokio::test]
async fn quit_lets_requests_finish() -> Outcome {
    let upstream = Upstream::start().await?;
    let (node, _database) = Executable::prepare(program(), &[]).await?;
    let mut running = node.start().await?;
    configure(&node, &upstream).await?;
    upstream.answer(Answer::echo().delay(Duration::from_millis(800)));
    upstream.forget();
    let mut connection = node.proxy().connect().await?;
    connection
        .write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    upstream.wait_for(1).await;
    let prefix = node.prefix().display().to_string();
    let args = ["quit", "-p", &prefix];
    let (quit, answer) = tokio::join!(node.cli(&args), connection.response("GET"));
    assert_eq!(answer?.status, 200);
    assert!(succeeds(&quit?).contains("gracefully"));
    assert!(running.process().wait(Duration::from_secs(5))?.success());
    Ok(())
}

#[tokio::test]
async fn reload_takes_over_the_log_level_and_goes_on_serving() -> Outcome {
    let upstream = Upstream::start().await?;
    let (node, _database) = Executable::prepare(program(), &[("log_level", "error")]).await?;
    let _running = node.start().await?;
    configure(&node, &upstream).await?;
    let log = node.prefix().join("logs/error.log");
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(!logged().contains("reloaded"));
    let conf = std::fs::read_to_string(node.config_file())?;
    let conf = conf.replace("log_level = error", "log_level = info");
    std::fs::write(node.config_file(), conf)?;
    let prefix = node.prefix().display().to_string();
    let mut kept = node.proxy().connect().await?;
    assert_eq!(kept.send(&node.proxy().get("/")).await?.status, 200);
    succeeds(&node.cli(&["reload", "-p", &prefix]).await?);
    let limit = Duration::from_secs(5);
    silverback_testkit::gateway::eventually("the log tells", limit, || async {
        Ok(logged().contains("reloaded").then_some(()))
    })
    .await?;
    assert_eq!(kept.send(&node.proxy().get("/")).await?.status, 200);

    // A configuration that is wrong is not taken over.
    std::fs::write(node.config_file(), "pg_port = x\n")?;
    let reload = node.cli(&["reload", "-p", &prefix]).await?;
    assert_eq!(reload.status.code(), Some(1));
    assert_eq!(kept.send(&node.proxy().get("/")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn killed_with_9_it_comes_back_as_it_was() -> Outcome {
    let upstream = Upstream::start().await?;
    let (node, _database) = Executable::prepare(program(), &[]).await?;
    let mut running = node.start().await?;
    configure(&node, &upstream).await?;
    running.process().kill();
    // The prefix of a process that was killed is free again.
    let _again = node.start().await?;
    assert_eq!(node.proxy().get("/").send().await?.status, 200);
    let rows = node.admin().get("/services").expect(200).await?.json();
    assert_eq!(rows["data"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_it_in_order() -> Outcome {
    let (node, _database) = Executable::prepare(program(), &[]).await?;
    let mut running = node.start().await?;
    running.process().signal(Signal::SIGTERM);
    assert!(running.process().wait(Duration::from_secs(10))?.success());
    assert!(!node.prefix().join("pids/silverback.pid").exists());
    Ok(())
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request() -> Outcome {
    let upstream = Upstream::start().await?;
    let (node, _database) = Executable::prepare(program(), &[]).await?;
    let mut running = node.start().await?;
    configure(&node, &upstream).await?;
    node.proxy()
        .get("/logged?x=1")
        .header("User-Agent", "curl/8 \"quoted\"")
        .expect(200)
        .await?;
    running.process().stop(Duration::from_secs(10));
    let log = std::fs::read_to_string(node.prefix().join("logs/access.log"))?;
    let line = log.lines().find(|l| l.contains("/logged")).unwrap();
    assert!(line.contains("\"GET /logged?x=1 HTTP/1.1\" 200 "), "{line}");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(!line.contains("\"quoted\""), "{line}");
    Ok(())
}
