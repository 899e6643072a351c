//! The two endpoints.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openssl::sha::sha256;

use super::*;
use crate::code::CODES;

#[tokio::test]
async fn an_application_gets_a_token_for_itself() {
    let node = Node::new(json!({ "mandatory_scope": true }));
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec";
    let done = node
        .tokens(&format!("{form}&scope=email+phone&state=st"))
        .await;
    assert_eq!(
        done.exit_status(200).header("cache-control"),
        Some("no-store")
    );
    assert_eq!(done.header("pragma"), Some("no-cache"));
    let body = done.body_json();
    assert_eq!(body["access_token"].as_str().unwrap().len(), 32);
    assert_eq!(
        (
            &body["token_type"],
            &body["expires_in"],
            &body["state"],
            body.get("refresh_token")
        ),
        (&json!("bearer"), &json!(7200), &json!("st"), None)
    );
    let row = node.rows.all(TOKENS).remove(0);
    assert_eq!(row["service"], json!({ "id": SERVICE }));
    assert_eq!(row["credential"], json!({ "id": APPLICATION }));
    assert_eq!(
        (&row["scope"], &row["ttl"]),
        (&json!("email phone"), &json!(1_209_600))
    );

    for (more, error, description) in [
        ("", "invalid_scope", "You must specify a scope"),
        ("&scope=zz", "invalid_scope", "\"zz\" is an invalid scope"),
        (
            "&scope=email&scope=phone",
            "invalid_scope",
            "scope must be a string",
        ),
        (
            "&scope=email&authenticated_userid=u",
            "invalid_provision_key",
            "Invalid provision_key",
        ),
    ] {
        let done = node.tokens(&format!("{form}{more}")).await;
        is_refused(&done, 400, error, description);
    }
    assert_eq!(node.rows.all(TOKENS).len(), 1);
}

#[tokio::test]
async fn an_application_proves_who_it_is() {
    let mut node = Node::new(json!({}));
    node.application(
        "open",
        json!({ "client_type": "public", "client_secret": null }),
    );
    let hash = crate::secret::hash("sec").unwrap();
    node.application(
        "hashed",
        json!({ "client_secret": hash, "hash_secret": true }),
    );
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let grant = "grant_type=client_credentials";
    let post = |form: String| Exchange::post("/oauth2/token", FORM, form).tls();

    for form in [
        "client_id=cid&client_secret=sec",
        "client_id=hashed&client_secret=sec",
        "client_id=open",
    ] {
        assert_eq!(
            node.tokens(&format!("{grant}&{form}")).await.status(),
            200,
            "{form}"
        );
    }
    for form in [
        "client_id=cid&client_secret=bad",
        "client_id=cid",
        "client_id=hashed&client_secret=bad",
        "client_id=nope&client_secret=sec",
        "",
    ] {
        let done = node.tokens(&format!("{grant}&{form}")).await;
        is_refused(
            &done,
            400,
            "invalid_client",
            "Invalid client authentication",
        );
    }
    let done = node
        .tokens(&format!("{grant}&client_id=open&client_secret=x"))
        .await;
    is_refused(
        &done,
        400,
        "invalid_request",
        "client_secret is disallowed for public clients",
    );

    let done = node
        .run(post(grant.to_owned()).header("authorization", &basic("cid:sec")))
        .await;
    assert_eq!(done.status(), 200);
    for header in [
        basic("cid:bad"),
        basic("cid"),
        "Bearer x".to_owned(),
        "Basic *".to_owned(),
    ] {
        let done = node
            .run(post("grant_type=password".to_owned()).header("authorization", &header))
            .await;
        is_refused(
            &done,
            401,
            "invalid_client",
            "Invalid client authentication",
        );
        assert_eq!(
            done.header("www-authenticate"),
            Some("Basic realm=\"OAuth2.0\"")
        );
    }
}

#[tokio::test]
async fn a_password_is_changed_for_a_token_that_can_be_refreshed() {
    let node = Node::new(json!({}));
    let form = "grant_type=password&client_id=cid&client_secret=sec&provision_key=prov&authenticated_userid=u2&scope=email";
    let body = node.tokens(form).await.body_json();
    let refresh = body["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(node.rows.all(TOKENS)[0]["authenticated_userid"], "u2");
    for (without, error) in [
        ("&provision_key=prov", "invalid_provision_key"),
        ("&authenticated_userid=u2", "invalid_authenticated_userid"),
    ] {
        let done = node.tokens(&form.replace(without, "")).await;
        assert_eq!(refusal(&done).1, error);
    }

    let form =
        format!("grant_type=refresh_token&client_id=cid&client_secret=sec&refresh_token={refresh}");
    let second = node.tokens(&form).await.body_json();
    assert_ne!(second["refresh_token"], body["refresh_token"]);
    assert_ne!(second["access_token"], body["access_token"]);
    let rows = node.rows.all(TOKENS);
    assert_eq!(
        (
            rows.len(),
            &rows[0]["authenticated_userid"],
            &rows[0]["scope"]
        ),
        (1, &json!("u2"), &json!("email"))
    );
    is_refused(
        &node.tokens(&form).await,
        400,
        "invalid_request",
        "Invalid refresh_token",
    );
}

#[tokio::test]
async fn what_refreshes_a_token_may_stay_the_same() {
    let mut node = Node::new(json!({ "reuse_refresh_token": true }));
    node.application("cid2", json!({}));
    let form = "grant_type=password&client_id=cid&client_secret=sec&provision_key=prov&authenticated_userid=u2&scope=email";
    let first = node.tokens(form).await.body_json();
    let refresh = first["refresh_token"].as_str().unwrap();
    let form = |client: &str| {
        format!(
            "grant_type=refresh_token&client_id={client}&client_secret=sec&refresh_token={refresh}"
        )
    };
    let second = node.tokens(&form("cid")).await.body_json();
    assert_eq!(second["refresh_token"], first["refresh_token"]);
    assert_ne!(second["access_token"], first["access_token"]);
    let rows = node.rows.all(TOKENS);
    assert_eq!(
        (rows.len(), &rows[0]["access_token"]),
        (1, &second["access_token"])
    );
    is_refused(
        &node.tokens(&form("cid2")).await,
        400,
        "invalid_client",
        "Invalid client authentication",
    );

    // What may be allowed has changed since.
    let services = FakeServices::with_rows(node.rows.clone());
    let settings = settled(json!({ "scopes": ["phone"] }));
    node.plugin = Compiled::with(settings, &InstanceInfo::default(), &services);
    is_refused(
        &node.tokens(&form("cid")).await,
        400,
        "invalid_scope",
        "Scope mismatch",
    );
}

#[tokio::test]
async fn a_user_is_sent_back_with_a_code() {
    let node = Node::new(json!({}));
    let form = "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=u3&scope=email&state=st";
    let (status, uri) = node.sent_back(form).await;
    let code = node.rows.all(CODES).remove(0);
    let text = code["code"].as_str().unwrap();
    assert_eq!(
        (status, uri),
        (200, format!("https://app.test/cb?code={text}&state=st&x=y"))
    );
    assert_eq!(
        (&code["ttl"], &code["challenge"], &code["challenge_method"]),
        (&json!(300), &Value::Null, &Value::Null)
    );

    let form = format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={text}");
    let body = node.tokens(&form).await.body_json();
    assert_eq!(body["refresh_token"].as_str().unwrap().len(), 32);
    let token = node.rows.all(TOKENS).remove(0);
    assert_eq!(
        (&token["authenticated_userid"], &token["scope"]),
        (&json!("u3"), &json!("email"))
    );
    is_refused(
        &node.tokens(&form).await,
        400,
        "invalid_request",
        "Invalid code",
    );
    for form in [
        "grant_type=authorization_code&client_id=cid&client_secret=sec&code=nope",
        "grant_type=authorization_code&client_id=cid&client_secret=sec",
    ] {
        is_refused(
            &node.tokens(form).await,
            400,
            "invalid_request",
            "Invalid code",
        );
    }
}

#[tokio::test]
async fn a_code_is_good_once_for_one_application_and_soon() {
    let mut node = Node::new(json!({}));
    node.application("cid2", json!({}));
    let code = node.code("").await;
    let form = |client: &str| {
        format!("grant_type=authorization_code&client_id={client}&client_secret=sec&code={code}")
    };
    is_refused(
        &node.tokens(&form("cid2")).await,
        400,
        "invalid_request",
        "Invalid code",
    );
    let form = form("cid");
    let both = tokio::join!(node.tokens(&form), node.tokens(&form));
    let mut statuses = [both.0.status(), both.1.status()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);

    let code = node.code("").await;
    node.rows.set_now(1_700_000_300);
    let form = format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={code}");
    is_refused(
        &node.tokens(&form).await,
        400,
        "invalid_request",
        "Invalid code",
    );
}

#[tokio::test]
async fn a_user_is_sent_back_with_a_token_or_with_what_is_wrong() {
    let node = Node::new(json!({}));
    let form = "client_id=cid&provision_key=prov&authenticated_userid=u3";
    let (_, uri) = node
        .sent_back(&format!(
            "{form}&response_type=token&redirect_uri=https://app.test/other"
        ))
        .await;
    let token = node.rows.all(TOKENS).remove(0);
    assert_eq!(
        uri,
        format!(
            "https://app.test/other#access_token={}&expires_in=7200&token_type=bearer",
            token["access_token"].as_str().unwrap()
        )
    );
    assert_eq!(token["refresh_token"], Value::Null);

    for (more, uri) in [
        (
            "response_type=zz",
            "https://app.test/cb?error=unsupported_response_type&error_description=Invalid%20response_type&x=y",
        ),
        (
            "response_type=code&scope=zz",
            "https://app.test/cb?error=invalid_scope&error_description=%22zz%22%20is%20an%20invalid%20scope&x=y",
        ),
        (
            "response_type=code&redirect_uri=https://evil&state=s",
            "https://app.test/cb?error=invalid_request&error_description=Invalid%20redirect_uri%20that%20does%20not%20match%20with%20any%20redirect_uri%20created%20with%20the%20application&state=s&x=y",
        ),
    ] {
        assert_eq!(
            node.sent_back(&format!("{form}&{more}")).await,
            (400, uri.to_owned())
        );
    }
    for (form, error) in [
        (
            "response_type=code&client_id=nope&provision_key=prov&authenticated_userid=u",
            "invalid_client",
        ),
        (
            "response_type=code&client_id=cid&provision_key=bad&authenticated_userid=u",
            "invalid_provision_key",
        ),
        (
            "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=+",
            "invalid_authenticated_userid",
        ),
    ] {
        let done = node.post("/oauth2/authorize", form).await;
        assert_eq!((refusal(&done).0, refusal(&done).1.as_str()), (400, error));
    }
}

#[tokio::test]
async fn who_began_with_a_challenge_has_to_show_its_verifier() {
    let node = Node::new(json!({}));
    let verifier = "v".repeat(43);
    let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    let change = |code: &str, more: &str| {
        format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={code}{more}")
    };
    // Padding and the other alphabet mean the same.
    for asked in [
        challenge.clone(),
        format!("{challenge}=")
            .replace('_', "%2F")
            .replace('-', "%2B"),
    ] {
        let code = node
            .code(&format!(
                "&code_challenge={asked}&code_challenge_method=s256"
            ))
            .await;
        for (more, error, description) in [
            (
                "",
                "invalid_request",
                "code_verifier is required for PKCE authorization requests",
            ),
            (
                "&code_verifier",
                "invalid_request",
                "code_verifier is not a string",
            ),
            (
                "&code_verifier=short",
                "invalid_request",
                "code_verifier must be between 43 and 128 characters",
            ),
            (
                &format!("&code_verifier={}", "w".repeat(43)),
                "invalid_grant",
                "Invalid code",
            ),
        ] {
            is_refused(
                &node.tokens(&change(&code, more)).await,
                400,
                error,
                description,
            );
        }
        let done = node
            .tokens(&change(&code, &format!("&code_verifier={verifier}")))
            .await;
        assert_eq!(done.status(), 200);
    }
    let form = "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=u";
    for (more, text) in [
        (
            "&code_challenge_method=S256",
            "code_challenge%20is%20required%20when%20code_method%20is%20present",
        ),
        (
            "&code_challenge=x&code_challenge_method=plain",
            "code_challenge_method%20is%20not%20supported%2c%20must%20be%20S256",
        ),
    ] {
        let (status, uri) = node.sent_back(&format!("{form}{more}")).await;
        assert!(status == 400 && uri.contains(text), "{uri}");
    }
}

#[tokio::test]
async fn a_challenge_can_be_demanded() {
    for (pkce, of_public, of_confidential) in [
        ("none", false, false),
        ("lax", true, false),
        ("strict", true, true),
    ] {
        let mut node = Node::new(json!({ "pkce": pkce }));
        node.application("open", json!({ "client_type": "public" }));
        for (client, kind, demanded) in [
            ("open", "public", of_public),
            ("cid", "confidential", of_confidential),
        ] {
            let form = format!(
                "response_type=code&client_id={client}&provision_key=prov&authenticated_userid=u"
            );
            let (status, uri) = node.sent_back(&form).await;
            assert_eq!(status == 400, demanded, "{pkce} {uri}");
            let text = format!("code_challenge%20is%20required%20for%20{kind}%20clients");
            assert_eq!(uri.contains(&text), demanded, "{pkce} {uri}");
        }
    }
}

#[tokio::test]
async fn endpoints_are_for_https() {
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec";
    let post = || Exchange::post("/oauth2/token", FORM, form);
    let node = Node::new(json!({}));
    let forwarded = || post().header("x-forwarded-proto", "https");
    for plain in [post(), forwarded().from_trusted_peer()] {
        is_refused(
            &node.run(plain).await,
            400,
            "access_denied",
            "You must use HTTPS",
        );
    }
    let node = Node::new(json!({ "accept_http_if_already_terminated": true }));
    for plain in [
        post(),
        forwarded(),
        post().from_trusted_peer(),
        post()
            .header("x-forwarded-proto", "http")
            .from_trusted_peer(),
    ] {
        is_refused(
            &node.run(plain).await,
            400,
            "access_denied",
            "You must use HTTPS",
        );
    }
    let several = forwarded()
        .header("x-forwarded-proto", "https")
        .from_trusted_peer();
    is_refused(
        &node.run(several).await,
        400,
        "access_denied",
        "Only one X-Forwarded-Proto header allowed",
    );
    assert_eq!(
        node.run(forwarded().from_trusted_peer()).await.status(),
        200
    );
}

#[tokio::test]
async fn endpoints_are_for_post_and_ways_have_to_be_open() {
    let node = Node::new(
        json!({ "enable_authorization_code": false, "enable_implicit_grant": false, "enable_password_grant": false }),
    );
    let done = node.run(Exchange::get("/oauth2/token").tls()).await;
    let text = "The HTTP method GET is invalid for the token endpoint";
    is_refused(&done, 405, "invalid_method", text);
    assert_eq!(
        done.header("www-authenticate").unwrap(),
        format!("Bearer error=\"invalid_method\" error_description=\"{text}\"")
    );
    let done = node
        .run(Exchange::new("PUT", "/oauth2/authorize").tls())
        .await;
    assert_eq!(
        refusal(&done).2,
        "The HTTP method PUT is invalid for the authorization endpoint"
    );
    for grant in ["password", "zz", ""] {
        let done = node.tokens(&format!("grant_type={grant}&client_id=cid&client_secret=sec&provision_key=prov&authenticated_userid=u")).await;
        is_refused(&done, 400, "unsupported_grant_type", "Invalid grant_type");
    }
    for kind in ["code", "token"] {
        let form =
            format!("response_type={kind}&client_id=cid&provision_key=prov&authenticated_userid=u");
        let (_, uri) = node.sent_back(&form).await;
        assert!(uri.contains("unsupported_response_type"), "{uri}");
    }
}

#[tokio::test]
async fn where_there_is_no_service_nothing_is_given_out_for_one() {
    let node = Node::new(json!({}));
    let code = node.code("").await;
    let client = "client_id=cid&client_secret=sec";
    for form in [
        format!("grant_type=client_credentials&{client}"),
        format!("grant_type=authorization_code&{client}&code={code}"),
    ] {
        let exchange = Exchange::post("/oauth2/token", FORM, form).tls();
        let done = node.run(exchange.service(None)).await;
        let why = done.failed().to_string();
        assert_eq!(why, "the route has no service that tokens could be for");
    }
    assert!(node.rows.all(TOKENS).is_empty());
    // Tokens for all services need none.
    let node = Node::new(json!({ "global_credentials": true }));
    let form = format!("grant_type=client_credentials&{client}");
    let exchange = Exchange::post("/oauth2/token", FORM, form).tls();
    assert_eq!(node.run(exchange.service(None)).await.status(), 200);
    assert_eq!(node.rows.all(TOKENS)[0]["service"], Value::Null);
}

#[tokio::test]
async fn a_part_of_a_second_is_an_end_too() {
    let node = Node::new(json!({ "token_expiration": 0.5, "refresh_token_ttl": 0.5 }));
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec";
    let done = node.tokens(form).await;
    assert_eq!(done.body_json()["expires_in"], 1);
    assert_eq!(node.rows.all(TOKENS)[0]["ttl"], 1);
}
