//! `aws-lambda`, with a mock upstream in the place of Lambda.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

/// A route without service at `/`, whose requests go to the function `f` of that Lambda.
async fn node(lambda: &Upstream, config: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    let route = json!({"name": "r", "paths": ["/"], "strip_path": false});
    gateway.admin().post("/routes", &route).expect(201).await?;
    let mut all = json!({
        "host": "127.0.0.1", "port": lambda.addr().port(), "disable_https": true,
        "aws_region": "eu-west-1", "aws_key": "AKIDEXAMPLE", "aws_secret": "secret", "function_name": "f",
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), config.as_object()) {
        all.extend(more.clone());
    }
    gateway.plugin("/routes/r", "aws-lambda", all).await?;
    Ok(gateway)
}

fn answers(body: &str) -> Answer {
    Answer::status(200)
        .header("Content-Type", "application/json")
        .header("X-Amzn-RequestId", "foo")
        .body(body)
}

#[tokio::test]
async fn requests_are_signed_and_carry_the_arguments() -> Outcome {
    let lambda = Upstream::start().await?;
    lambda.answer(answers(r#"{"done": true}"#));
    let gateway = node(&lambda, json!({"qualifier": "v 1"})).await?;
    let answer = gateway
        .call("POST", "/any?key1=query")
        .form("key2=body")
        .expect(200)
        .await?;
    assert_eq!(answer.json(), json!({"done": true}));
    assert_eq!(answer.header("X-Amzn-RequestId"), Some("foo"));
    let dates = answer.headers.all("date").count();
    assert!(dates <= 1, "{dates}");

    let seen = lambda.seen();
    assert_eq!(seen.len(), 1);
    let request = &seen[0];
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.target,
        "/2015-03-31/functions/f/invocations?Qualifier=v%201"
    );
    let header = |name: &str| request.headers.get(name).unwrap_or_default().to_owned();
    assert_eq!(header("host"), lambda.addr().to_string());
    assert_eq!(header("x-amz-invocation-type"), "RequestResponse");
    assert_eq!(header("x-amz-log-type"), "Tail");
    let authorization = header("authorization");
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
            && authorization.contains("/eu-west-1/lambda/aws4_request")
            && authorization.contains("host;x-amz-date;x-amz-invocation-type;x-amz-log-type"),
        "{authorization}"
    );
    let payload: Value = serde_json::from_slice(&request.body)?;
    assert_eq!(payload, json!({"key1": "query", "key2": "body"}));
    Ok(())
}

#[tokio::test]
async fn a_gateways_event_goes_out_and_a_described_response_comes_back() -> Outcome {
    let lambda = Upstream::start().await?;
    lambda.answer(answers(
        r#"{"statusCode": 201, "headers": {"X-Own": "1"}, "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]}, "body": "made"}"#,
    ));
    let both = json!({"awsgateway_compatible": true, "is_proxy_integration": true});
    let gateway = node(&lambda, both).await?;
    let answer = gateway
        .call("POST", "/p?a=1")
        .host("api.test")
        .body("hi")
        .expect(201)
        .await?;
    assert_eq!(answer.text(), "made");
    assert_eq!(answer.header("X-Own"), Some("1"));
    assert_eq!(
        answer.headers.all("set-cookie").collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
    let event: Value = serde_json::from_slice(&lambda.seen()[0].body)?;
    assert_eq!(event["path"], "/p");
    assert_eq!(event["httpMethod"], "POST");
    assert_eq!(event["queryStringParameters"], json!({"a": "1"}));
    assert_eq!(event["body"], "aGk=");
    assert_eq!(event["requestContext"]["domainName"], "api.test");
    assert_eq!(
        event["requestContext"]["requestId"].as_str(),
        answer.header("X-Kong-Request-Id")
    );
    Ok(())
}

#[tokio::test]
async fn connections_are_kept() -> Outcome {
    let lambda = Upstream::start().await?;
    lambda.answer(answers("{}"));
    let gateway = node(&lambda, json!({})).await?;
    for _ in 0..4 {
        gateway.get("/").expect(200).await?;
    }
    assert_eq!(lambda.requests(), 4);
    assert!(lambda.connections() < 4, "{}", lambda.connections());
    Ok(())
}

#[tokio::test]
async fn large_answers_arrive_whole() -> Outcome {
    let lambda = Upstream::start().await?;
    let text = "x".repeat(6 << 20);
    lambda.answer(answers(&format!(r#"{{"text":"{text}"}}"#)));
    let gateway = node(&lambda, json!({})).await?;
    let answer = gateway.get("/").expect(200).await?;
    assert_eq!(answer.json()["text"].as_str().map(str::len), Some(6 << 20));
    Ok(())
}

#[tokio::test]
async fn without_a_good_answer_the_client_gets_500() -> Outcome {
    let lambda = Upstream::start().await?;
    let gateway = node(&lambda, json!({"timeout": 200})).await?;
    for answer in [
        Answer::status(403).body(r#"{"Message": "no"}"#),
        Answer::status(429),
        Answer::close_before_header(),
        Answer::hang(),
    ] {
        lambda.answer(answer);
        let refused = gateway.get("/").expect(500).await?;
        assert_eq!(refused.json()["message"], "An unexpected error occurred");
    }
    Ok(())
}

#[tokio::test]
async fn a_service_whose_certificate_is_not_trusted_is_not_told_anything() -> Outcome {
    let lambda = Upstream::start().await?;
    let other = silverback_testkit::gateway::Setup::new()
        .tls()
        .start()
        .await?;
    let tls = json!({"port": other.tls().addr().port(), "disable_https": false});
    let gateway = node(&lambda, tls).await?;
    gateway.get("/").expect(500).await?;
    Ok(())
}

#[tokio::test]
async fn a_role_is_assumed_once_for_many_requests() -> Outcome {
    let lambda = Upstream::start().await?;
    lambda.answer(answers("{}"));
    let sts = Upstream::start().await?;
    sts.answer(Answer::status(200).header("Content-Type", "text/xml").body(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>token</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
    ));
    let role = json!({
        "aws_assume_role_arn": "arn:aws:iam::1:role/r", "aws_role_session_name": "me", "aws_sts_endpoint_url": sts.url(),
    });
    let gateway = node(&lambda, role).await?;
    for _ in 0..3 {
        gateway.get("/").expect(200).await?;
    }
    let asked = sts.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&asked[0].body),
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=me"
    );
    let signed = asked[0].headers.get("authorization").unwrap_or_default();
    assert!(
        signed.contains("AKIDEXAMPLE/") && signed.contains("/sts/aws4_request"),
        "{signed}"
    );
    for request in lambda.seen() {
        assert_eq!(request.headers.get("x-amz-security-token"), Some("token"));
        let signed = request.headers.get("authorization").unwrap_or_default();
        assert!(signed.contains("ASIAROLE/"), "{signed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_role_that_is_refused_is_an_error() -> Outcome {
    let lambda = Upstream::start().await?;
    let sts = Upstream::start().await?;
    sts.answer(Answer::status(403).body("<ErrorResponse/>"));
    let role =
        json!({"aws_assume_role_arn": "arn:aws:iam::1:role/r", "aws_sts_endpoint_url": sts.url()});
    let gateway = node(&lambda, role).await?;
    gateway.get("/").expect(500).await?;
    assert_eq!(lambda.requests(), 0);
    Ok(())
}
