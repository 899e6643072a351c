//! JSON, urlencoded forms and multipart forms say the same.

use serde_json::json;
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

#[tokio::test]
async fn three_kinds_of_body_make_the_same_row() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let json = admin
        .call("PUT", "/routes/a")
        .json(&json!({"paths": ["/x", "/y"], "strip_path": false, "regex_priority": 7}));
    let form = admin
        .call("PUT", "/routes/b")
        .form("paths[]=/x&paths[]=%2Fy&strip_path=false&regex_priority=7");
    let part = |name: &str, value: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts = [
        part("paths[1]", "/x"),
        part("paths[2]", "/y"),
        part("strip_path", "false"),
        part("regex_priority", "7"),
        "--B--\r\n".to_owned(),
    ];
    let multipart = admin
        .call("PUT", "/routes/c")
        .header("Content-Type", "multipart/form-data; boundary=B")
        .body(parts.concat());
    let mut rows = Vec::new();
    for call in [json, form, multipart] {
        let mut row = call.expect(200).await?.json();
        for field in ["id", "name", "created_at", "updated_at"] {
            row.as_object_mut().unwrap().remove(field);
        }
        rows.push(row);
    }
    assert_eq!(rows[0]["paths"], json!(["/x", "/y"]));
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0], rows[2]);
    Ok(())
}

#[tokio::test]
async fn nested_fields_of_a_form_are_a_configuration() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let form = "name=rate-limiting&config.minute=5&config.policy=local&config.redis.port=6380&tags=a&tags=b";
    let row = admin.call("POST", "/plugins").form(form);
    let row = row.expect(201).await?.json();
    assert_eq!(row["config"]["minute"], 5);
    assert_eq!(row["config"]["redis"]["port"], 6380);
    assert_eq!(row["tags"], json!(["a", "b"]));
    Ok(())
}

#[tokio::test]
async fn null_resets_and_absence_keeps() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let row = json!({"name": "s", "host": "a.test", "retries": 2, "path": "/p"});
    admin.post("/services", &row).expect(201).await?;
    let changed = admin.patch("/services/s", &json!({"retries": null, "path": null}));
    let changed = changed.expect(200).await?.json();
    assert_eq!(
        (&changed["path"], &changed["host"]),
        (&json!(null), &json!("a.test"))
    );
    Ok(())
}

#[tokio::test]
async fn a_url_stands_for_its_parts() -> Outcome {
    let gateway = Gateway::start().await?;
    let body = json!({"name": "s", "url": "https://a.test:8443/base"});
    let row = gateway.admin().post("/services", &body).expect(201).await?;
    let row = row.json();
    assert_eq!(
        (&row["protocol"], &row["host"], &row["port"], &row["path"]),
        (
            &json!("https"),
            &json!("a.test"),
            &json!(8443),
            &json!("/base")
        )
    );
    assert!(row.get("url").is_none());
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for body in ["{", "[1,2]", "\"text\"", "null", "{\"name\": }", "\u{0}"] {
        let answer = admin
            .call("POST", "/services")
            .header("Content-Type", "application/json")
            .body(body)
            .send()
            .await?;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        assert!(answer.json()["message"].is_string());
    }
    let unknown = admin
        .call("POST", "/services")
        .header("Content-Type", "text/csv")
        .body("a,b");
    assert_eq!(unknown.send().await?.status, 415);
    Ok(())
}
