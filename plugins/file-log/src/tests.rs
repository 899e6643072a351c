#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use silverback_export::Deliver;
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};

use crate::FileLog;
use crate::writer::{File, Line, Writer};

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<FileLog>(), facts);
}

#[test]
fn names_that_are_none_are_refused() {
    for bad in ["/tmp/*.log", "a&b", "50%", "a`b", "a\\b"] {
        let refused = config::<FileLog>(json!({ "path": bad })).unwrap_err();
        assert_eq!(
            refused.message(),
            "schema violation (config.path: not a valid filename)",
            "{bad}"
        );
    }
    config::<FileLog>(json!({ "path": "/tmp/ok 1.log" })).unwrap();
    let lua = json!({ "path": "x", "custom_fields_by_lua": { "a": "return 1" } });
    let refused = config::<FileLog>(lua).unwrap_err().message();
    assert!(
        refused.contains("custom_fields_by_lua: Lua is not supported"),
        "{refused}"
    );
}

/// The lines of a file, as soon as there are so many.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text
                .lines()
                .map(|l| serde_json::from_str(l).unwrap())
                .collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_exchange_is_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.log");
    let services = FakeServices::default();
    let info = InstanceInfo::default();
    let make = |reopen: bool| {
        let given = json!({ "path": path, "reopen": reopen });
        Compiled::<FileLog>::with(given, &info, &services)
    };
    let one = make(false);
    let another = make(false);
    Exchange::get("/one").run_on(&one).await;
    Exchange::get("/two").run_on(&another).await;
    let uris: Vec<_> = lines(&path, 2).await;
    assert_eq!(uris[0]["request"]["uri"], "/one");
    assert_eq!(uris[1]["request"]["uri"], "/two");
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_written_on_unless_it_is_to_be_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    let writer = Writer(Arc::new(File::new(path.to_str().unwrap())));
    let line = |text: &str, reopen| Line {
        text: format!("{text}\n"),
        reopen,
    };
    writer
        .deliver(&[line("1", false), line("2", false)])
        .await
        .unwrap();
    fs::rename(&path, &moved).unwrap();
    writer.deliver(&[line("3", false)]).await.unwrap();
    assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n2\n3\n");
    assert!(!path.exists());
    writer.deliver(&[line("4", true)]).await.unwrap();
    writer.deliver(&[line("5", false)]).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "4\n5\n");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/a.log");
    let writer = Writer(Arc::new(File::new(path.to_str().unwrap())));
    let lines = [Line {
        text: "1\n".to_owned(),
        reopen: false,
    }];
    let failed = writer.deliver(&lines).await.unwrap_err();
    assert!(failed.starts_with("failed to write "), "{failed}");
    fs::create_dir(dir.path().join("missing")).unwrap();
    writer.deliver(&lines).await.unwrap();
}
