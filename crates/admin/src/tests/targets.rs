//! Upstreams and their targets.

use http::Method;
use serde_json::{Value, json};

use super::harness::Api;

const ID: &str = "00000006-0000-4000-8000-000000000001";

async fn with_targets() -> Api {
    let api = Api::new().await;
    api.post("/upstreams", json!({ "id": ID, "name": "u" }))
        .await
        .expect(201);
    for (n, target) in ["127.0.0.1:80", "127.0.0.2", "[::1]:80"].iter().enumerate() {
        let id = format!("00000007-0000-4000-8000-00000000000{n}");
        let body = json!({ "id": id, "target": target, "weight": 10 + n });
        api.post("/upstreams/u/targets", body).await.expect(201);
    }
    api
}

fn names(page: &Value) -> Vec<&str> {
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|r| r["target"].as_str().unwrap()).collect()
}

const V6: &str = "[0000:0000:0000:0000:0000:0000:0000:0001]:80";

#[tokio::test]
async fn the_newest_target_comes_first_and_pages_are_counted() {
    let api = with_targets().await;
    let all = api.get("/upstreams/u/targets").await.expect(200);
    assert_eq!(names(&all), [V6, "127.0.0.2:8000", "127.0.0.1:80"]);
    let raw = api.get("/upstreams/u/targets/all").await.expect(200);
    assert_eq!(names(&raw), ["127.0.0.1:80", "127.0.0.2:8000", V6]);
    let first = api.get("/upstreams/u/targets?size=2").await.expect(200);
    assert_eq!(
        (&first["offset"], &first["next"]),
        (&json!("2"), &json!("/upstreams/u/targets?offset=2"))
    );
    let rest = api.get("/upstreams/u/targets?offset=2").await.expect(200);
    assert_eq!(names(&rest), ["127.0.0.1:80"]);
    let bad = api.get("/upstreams/u/targets?offset=x").await.expect(400);
    assert_eq!(bad["code"], 7);
}

#[tokio::test]
async fn a_target_is_there_once_and_is_found_by_name_or_id() {
    let api = with_targets().await;
    let body = json!({ "target": "127.0.0.1:80" });
    let taken = api.post("/upstreams/u/targets", body).await.expect(409);
    assert_eq!(
        taken["message"],
        format!(
            "UNIQUE violation detected on '{{target=\"127.0.0.1:80\",upstream={{id=\"{ID}\"}}}}'"
        )
    );
    let by_name = api
        .get("/upstreams/u/targets/127.0.0.1:80")
        .await
        .expect(200);
    let by_id = "/upstreams/u/targets/00000007-0000-4000-8000-000000000000";
    assert_eq!(api.get(by_id).await.expect(200), by_name);
    assert!(by_name["created_at"].as_f64().unwrap() > 1e9);
    let changed = api
        .patch("/upstreams/u/targets/127.0.0.1:80", json!({ "weight": 0 }))
        .await
        .expect(200);
    assert_eq!(
        (&changed["weight"], &changed["id"]),
        (&json!(0), &by_name["id"])
    );
    api.put("/upstreams/u/targets/127.0.0.9:80", json!({}))
        .await
        .expect(404);
    assert_eq!(api.delete("/upstreams/u/targets/127.0.0.1:80").await, 204);
    assert_eq!(api.delete("/upstreams/u/targets/127.0.0.1:80").await, 404);
    assert_eq!(api.delete("/upstreams/u").await, 204);
    api.get("/upstreams/u/targets").await.expect(404);
}

#[tokio::test]
async fn without_checks_targets_are_shown_as_unchecked() {
    let api = with_targets().await;
    let health = api.get("/upstreams/u/health").await.expect(200);
    let one = &health["data"][2];
    assert_eq!(one["health"], "HEALTHCHECKS_OFF");
    assert_eq!(
        one["data"],
        json!({
            "host": "127.0.0.1", "port": 80, "dns": "A", "nodeWeight": 10,
            "weight": { "total": 10, "available": 10, "unavailable": 0 },
            "addresses": [{ "ip": "127.0.0.1", "port": 80, "weight": 10, "health": "HEALTHCHECKS_OFF" }]
        })
    );
    assert!(health["node_id"].is_string());
    let balancer = api
        .get("/upstreams/u/health?balancer_health=1")
        .await
        .expect(200);
    assert_eq!(
        (
            &balancer["data"]["health"],
            &balancer["data"]["balancer_health"]
        ),
        (&json!("HEALTHCHECKS_OFF"), &json!("HEALTHY"))
    );
}

#[tokio::test]
async fn without_a_checker_nobody_can_be_told_of_health() {
    let api = with_targets().await;
    let path = "/upstreams/u/targets/127.0.0.1:80";
    for (method, path) in [
        (Method::PUT, format!("{path}/healthy")),
        (Method::POST, format!("{path}/unhealthy")),
        (Method::PUT, format!("{path}/127.0.0.1/healthy")),
    ] {
        let got = api.bare(method, &path).await.expect(400);
        assert_eq!(got["message"], "no healthchecker found for u", "{path}");
    }
    let nobody = "/upstreams/u/targets/nope/healthy";
    api.bare(Method::PUT, nobody).await.expect(404);
    api.get(&format!("{path}/healthy")).await.expect(405);
}
