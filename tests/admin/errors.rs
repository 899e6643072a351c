//! Errors: all of them at once, in Kong's shape.

use serde_json::json;
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

#[tokio::test]
async fn all_violations_are_told_at_once() -> Outcome {
    let gateway = Gateway::start().await?;
    let body =
        json!({"name": "a b", "port": 70000, "protocol": "gopher", "retries": "x", "extra": 1});
    let answer = gateway.admin().post("/services", &body).expect(400).await?;
    let answer = answer.json();
    assert_eq!(
        (&answer["name"], &answer["code"]),
        (&json!("schema violation"), &json!(2))
    );
    for field in ["host", "name", "port", "protocol", "retries", "extra"] {
        assert!(answer["fields"].get(field).is_some(), "{field}: {answer}");
    }
    let message = answer["message"].as_str().unwrap();
    assert!(message.starts_with("6 schema violations ("), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_name_is_given_once() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let row = json!({"name": "s", "host": "a.test"});
    admin.post("/services", &row).expect(201).await?;
    let answer = admin.post("/services", &row).expect(409).await?.json();
    assert_eq!(
        answer,
        json!({
            "message": "UNIQUE violation detected on '{name=\"s\"}'",
            "name": "unique constraint violation",
            "code": 5,
            "fields": {"name": "s"},
        })
    );
    Ok(())
}

#[tokio::test]
async fn what_is_referred_to_must_exist() -> Outcome {
    let gateway = Gateway::start().await?;
    let nobody = "00000000-0000-4000-8000-000000000000";
    let row = json!({"paths": ["/"], "service": {"id": nobody}});
    let answer = gateway.admin().post("/routes", &row).expect(400).await?;
    let answer = answer.json();
    assert_eq!(
        (
            &answer["name"],
            &answer["code"],
            &answer["fields"]["service"]["id"]
        ),
        (&json!("foreign key violation"), &json!(4), &json!(nobody))
    );
    Ok(())
}

#[tokio::test]
async fn one_of_a_kind_per_scope() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let plugin = json!({"name": "correlation-id"});
    admin.post("/plugins", &plugin).expect(201).await?;
    let answer = admin.post("/plugins", &plugin).expect(409).await?.json();
    assert_eq!(answer["code"], 5);
    Ok(())
}

#[tokio::test]
async fn a_refused_write_changes_nothing() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let row = json!({"name": "s", "host": "a.test"});
    let made = admin.post("/services", &row).expect(201).await?.json();
    let revision = gateway.revision().await?;
    admin
        .patch("/services/s", &json!({"port": -1}))
        .expect(400)
        .await?;
    admin.put("/services/s", &json!({})).expect(400).await?;
    assert_eq!(admin.get("/services/s").expect(200).await?.json(), made);
    assert_eq!(gateway.revision().await?, revision);
    Ok(())
}

#[tokio::test]
async fn a_regular_expression_that_is_none_is_refused() -> Outcome {
    let gateway = Gateway::start().await?;
    let route = json!({"paths": ["~/a(b"]});
    let answer = gateway.admin().post("/routes", &route).expect(400).await?;
    assert!(
        answer.json()["fields"]["paths"].is_array(),
        "{}",
        answer.text()
    );
    Ok(())
}
