//! Pages and tags.

use std::collections::HashSet;

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

async fn with_consumers(count: usize) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    for n in 0..count {
        let tags = [
            "all".to_owned(),
            format!("mod{}", n % 3),
            format!("half{}", n % 2),
        ];
        let row = json!({"username": format!("u{n}"), "tags": tags});
        gateway.admin().post("/consumers", &row).expect(201).await?;
    }
    Ok(gateway)
}

/// Follows `next` to the end.
async fn all(gateway: &Gateway, path: &str) -> anyhow::Result<Vec<Value>> {
    let (mut rows, mut path) = (Vec::new(), path.to_owned());
    loop {
        let page = gateway.admin().get(&path).expect(200).await?.json();
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => return Ok(rows),
        }
    }
}

fn names(rows: &[Value]) -> HashSet<&str> {
    rows.iter().filter_map(|r| r["username"].as_str()).collect()
}

#[tokio::test]
async fn pages_hold_every_row_once() -> Outcome {
    let gateway = with_consumers(25).await?;
    for size in [1, 7, 24, 25, 26, 1000] {
        let rows = all(&gateway, &format!("/consumers?size={size}")).await?;
        assert_eq!((rows.len(), names(&rows).len()), (25, 25), "size {size}");
    }
    for size in ["0", "1001", "x", "-1"] {
        let path = format!("/consumers?size={size}");
        gateway.admin().get(&path).expect(400).await?;
    }
    gateway
        .admin()
        .get("/consumers?offset=nonsense")
        .expect(400)
        .await?;
    Ok(())
}

#[tokio::test]
async fn rows_deleted_between_pages_do_not_hide_others() -> Outcome {
    let gateway = with_consumers(9).await?;
    let admin = gateway.admin();
    let first = admin.get("/consumers?size=3").expect(200).await?.json();
    let last = first["data"][2]["id"].as_str().unwrap();
    admin
        .delete(&format!("/consumers/{last}"))
        .expect(204)
        .await?;
    let rest = all(&gateway, first["next"].as_str().unwrap()).await?;
    assert_eq!(rest.len(), 6);
    Ok(())
}

#[tokio::test]
async fn tags_filter_by_and_and_by_or() -> Outcome {
    let gateway = with_consumers(12).await?;
    for (filter, count) in [
        ("all", 12),
        ("mod0", 4),
        ("mod0,half0", 2),
        ("mod0/mod1", 8),
        ("none", 0),
    ] {
        let rows = all(&gateway, &format!("/consumers?tags={filter}&size=5")).await?;
        assert_eq!(rows.len(), count, "{filter}");
    }
    gateway
        .admin()
        .get("/consumers?tags=a,b/c")
        .expect(400)
        .await?;
    Ok(())
}

#[tokio::test]
async fn tags_are_listed_over_all_entities() -> Outcome {
    let gateway = with_consumers(2).await?;
    let admin = gateway.admin();
    let service = json!({"name": "s", "host": "a.test", "tags": ["all", "only"]});
    admin.post("/services", &service).expect(201).await?;
    let of_all = all(&gateway, "/tags/all").await?;
    let mut kinds: Vec<_> = of_all
        .iter()
        .filter_map(|t| t["entity_name"].as_str())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["consumers", "consumers", "services"]);
    let everything = all(&gateway, "/tags?size=3").await?;
    assert_eq!(everything.len(), 2 * 3 + 2);
    Ok(())
}
