//! Requests that two servers could read differently: refused, the connection closed, nothing sent on.

use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// A second request hidden behind the first: if it is answered or arrives, smuggling works.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn ambiguous_requests_are_refused_and_closed() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    gateway.settle().await?;
    let post =
        |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}");
    let cases = [
        (
            "length and chunks",
            post(
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "two lengths",
            post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"),
        ),
        (
            "a list of lengths",
            post("Content-Length: 0, 5\r\n", "hello"),
        ),
        ("a signed length", post("Content-Length: +5\r\n", "hello")),
        ("a negative length", post("Content-Length: -1\r\n", "")),
        (
            "a hexadecimal length",
            post("Content-Length: 0x5\r\n", "hello"),
        ),
        (
            "chunked is not the last coding",
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ),
        (
            "an unknown coding",
            post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ),
        (
            "chunked twice",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "a blank before the colon",
            post("Content-Length : 5\r\n", "hello"),
        ),
        (
            "a folded header",
            post("X-A: 1\r\n Content-Length: 5\r\nContent-Length: 0\r\n", ""),
        ),
        (
            "a bare CR in a header",
            post("X-A: 1\rContent-Length: 5\r\n", ""),
        ),
        ("a NUL in a header", post("X-A: 1\0\r\n", "")),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        ),
        ("no host", "GET / HTTP/1.1\r\nX-A: 1\r\n\r\n".to_owned()),
        (
            "a header without a colon",
            "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n".to_owned(),
        ),
        ("no request at all", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
    ];
    for (what, request) in cases {
        let mut connection = gateway.proxy().connect().await?;
        connection
            .write(format!("{request}{HIDDEN}").as_bytes())
            .await?;
        let answers = connection.rest().await?;
        let text = String::from_utf8_lossy(&answers);
        // A coding that is not known is 501, as nginx has it.
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 501 "];
        assert!(
            refused.iter().any(|line| text.starts_with(line)),
            "{what}: {text:?}"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{what}: {text:?}");
        assert_eq!(upstream.requests(), 0, "{what}: it was sent on");
    }
    Ok(())
}

#[tokio::test]
async fn chunks_that_are_none_end_the_connection() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    gateway.settle().await?;
    for chunks in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello world\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut connection = gateway.proxy().connect().await?;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection
            .write(format!("{head}{chunks}{HIDDEN}").as_bytes())
            .await?;
        let answers = connection.rest().await?;
        let text = String::from_utf8_lossy(&answers);
        assert!(text.starts_with("HTTP/1.1 400 "), "{chunks:?}: {text:?}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{chunks:?}: {text:?}");
    }
    let whole = upstream.seen();
    assert!(whole.is_empty(), "complete requests arrived: {whole:?}");
    Ok(())
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() -> Outcome {
    let gateway = Gateway::start().await?;
    let call = gateway.get("/").header("X-Large", &"x".repeat(200_000));
    let answer = call.send().await?;
    assert_eq!(answer.status, 400);
    let long = format!("/{}", "x".repeat(200_000));
    assert_eq!(gateway.get(&long).send().await?.status, 414);
    Ok(())
}

#[tokio::test]
async fn a_refusal_does_not_disturb_others() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let mut good = gateway.proxy().connect().await?;
    assert_eq!(good.send(&gateway.get("/")).await?.status, 200);
    for _ in 0..20 {
        let mut bad = gateway.proxy().connect().await?;
        bad.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            .await?;
        assert!(bad.rest().await?.starts_with(b"HTTP/1.1 400 "));
    }
    assert_eq!(good.send(&gateway.get("/")).await?.status, 200);
    Ok(())
}
