//! Methods, CORS, connections.

use serde_json::json;
use silverback_testkit::gateway::{Endpoint, Gateway, Setup};

use crate::Outcome;

#[tokio::test]
async fn head_is_get_without_a_body() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let row = json!({"name": "s", "host": "a.test"});
    admin.post("/services", &row).expect(201).await?;
    for path in ["/", "/services", "/services/s", "/status"] {
        let head = admin.call("HEAD", path).expect(200).await?;
        assert!(head.body.is_empty(), "{path}");
        let get = admin.get(path).expect(200).await?;
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
    admin.call("HEAD", "/services/nobody").expect(404).await?;
    Ok(())
}

#[tokio::test]
async fn options_tells_the_methods() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for (path, methods) in [
        ("/services", "GET, HEAD, OPTIONS, POST"),
        ("/services/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ] {
        let answer = admin.call("OPTIONS", path).expect(204).await?;
        for header in ["Allow", "Access-Control-Allow-Methods"] {
            let mut told: Vec<_> = answer
                .header(header)
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .collect();
            told.sort_unstable();
            assert_eq!(told.join(", "), methods, "{path} {header}");
        }
        assert!(answer.header("Access-Control-Allow-Origin").is_some());
    }
    Ok(())
}

#[tokio::test]
async fn a_method_that_does_not_fit_is_405() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for (method, path) in [
        ("DELETE", "/services"),
        ("POST", "/services/x"),
        ("POST", "/status"),
        ("PATCH", "/plugins/enabled"),
    ] {
        let answer = admin.call(method, path).expect(405).await?;
        assert_eq!(answer.json(), json!({"message": "Method not allowed"}));
    }
    Ok(())
}

#[tokio::test]
async fn browsers_of_any_origin_may_call() -> Outcome {
    let gateway = Gateway::start().await?;
    let answer = gateway
        .admin()
        .get("/services")
        .header("Origin", "http://ui.test")
        .expect(200)
        .await?;
    assert!(answer.header("Access-Control-Allow-Origin").is_some());
    Ok(())
}

#[tokio::test]
async fn a_trailing_slash_is_no_difference_and_two_are() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    admin.get("/services/").expect(200).await?;
    admin.get("//services").expect(404).await?;
    Ok(())
}

#[tokio::test]
async fn the_admin_api_speaks_tls_too() -> Outcome {
    let gateway = Setup::new()
        .set("admin_listen", "127.0.0.1:0, 127.0.0.1:0 ssl")
        .start()
        .await?;
    let addrs = gateway.node().admin_addrs();
    let mut connection = Endpoint::tls(addrs[1]).connect().await?;
    let call = Endpoint::tls(addrs[1]).get("/services");
    for _ in 0..2 {
        assert_eq!(connection.send(&call).await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn only_this_machine_reaches_it_unless_allowed() -> Outcome {
    let Err(error) = Setup::new().set("admin_listen", "0.0.0.0:0").start().await else {
        panic!("it started")
    };
    let text = format!("{error:#}");
    assert!(text.contains("admin_allow_remote"), "{text}");
    assert!(text.contains("admin_require_token"), "{text}");
    Ok(())
}
