use super::*;

#[track_caller]
fn refused(head: &str, why: Refusal) {
    match judge(head.as_bytes()) {
        Verdict::Refuse(r, _) => assert_eq!(r, why, "{head:?}"),
        other => panic!("{head:?}: {other:?}"),
    }
}

#[track_caller]
fn passed(head: &str) -> Head {
    match judge(head.as_bytes()) {
        Verdict::Pass(h) => h,
        other => panic!("{head:?}: {other:?}"),
    }
}

#[test]
fn an_ordinary_head_passes_and_its_length_is_known() {
    let h = passed("GET /a?b HTTP/1.1\r\nHost: h.test:80\r\nX_Under: 1\r\n\r\nrest");
    assert_eq!(
        h,
        Head {
            len: 50,
            body: Framing::Length(0),
            upgrade: false,
            rewritten: None
        }
    );
    assert_eq!(
        passed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\n").body,
        Framing::Length(12)
    );
    assert_eq!(
        passed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n").body,
        Framing::Chunked
    );
    assert_eq!(passed("GET / HTTP/1.0\r\n\r\n").body, Framing::Length(0));
    assert!(passed("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n").upgrade);
    assert!(!passed("GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n").upgrade);
}

#[test]
fn half_a_head_waits() {
    for n in 0.."GET / HTTP/1.1\r\nHost: h\r\n\r\n".len() - 1 {
        assert_eq!(
            judge(&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..n]),
            Verdict::Incomplete,
            "{n}"
        );
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    let h = |more: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{more}\r\n\r\n");
    for more in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: ",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        refused(&h(more), Refusal::BadRequest);
    }
    for coding in [
        "gzip",
        "chunked, gzip",
        "gzip, chunked",
        "chunked;x=1",
        "xchunked",
        "identity",
    ] {
        refused(
            &h(&format!("Transfer-Encoding: {coding}")),
            Refusal::NotImplemented,
        );
    }
    refused(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Refusal::BadRequest,
    );
}

#[test]
fn malformed_header_lines_are_refused() {
    for line in [
        "X : 1", "X\t: 1", ": 1", "X", " folded", "\tfolded", "X: a\rb", "X: a\0b", "X: \x7f",
        "X(1): a", "X\0: a",
    ] {
        refused(
            &format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n"),
            Refusal::BadRequest,
        );
    }
}

#[test]
fn one_sound_host_is_wanted() {
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: \r\n",
        "Host: bad host\r\n",
        "Host: a@b\r\n",
        "Host: a/b\r\n",
    ] {
        refused(
            &format!("GET / HTTP/1.1\r\n{hosts}\r\n"),
            Refusal::BadRequest,
        );
    }
    passed("GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n");
}

#[test]
fn malformed_request_lines_are_refused() {
    for l in [
        "get / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "G\0T / HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET x HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET /%00 HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET /.. HTTP/1.1",
        "GET /a/%2e%2e/../x HTTP/1.1",
        "CONNECT a.test:443 HTTP/1.1",
        "garbage",
        "GET / HTTP/1.1 ",
    ] {
        refused(&format!("{l}\r\nHost: h\r\n\r\n"), Refusal::BadRequest);
    }
    refused(
        "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        Refusal::VersionNotSupported,
    );
    refused("GET /\r\n", Refusal::Http09);
    refused(
        "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
        Refusal::MethodNotAllowed,
    );
    refused(
        "CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n",
        Refusal::MethodNotAllowed,
    );
    passed("GET /a/../b/%2e%2e/./x HTTP/1.1\r\nHost: h\r\n\r\n");
}

#[test]
fn absolute_form_becomes_origin_form_with_its_own_host() {
    let h = passed("GET http://abs.test/x?y HTTP/1.1\r\nHost: other\r\nA: 1\r\n\r\n");
    assert_eq!(
        h.rewritten.unwrap(),
        b"GET /x?y HTTP/1.1\r\nHost: abs.test\r\nA: 1\r\n\r\n"
    );
    let h = passed("GET http://abs.test?y HTTP/1.0\r\n\r\n");
    assert_eq!(
        h.rewritten.unwrap(),
        b"GET /?y HTTP/1.0\r\nHost: abs.test\r\n\r\n"
    );
    refused(
        "GET http://u@abs.test/ HTTP/1.1\r\nHost: abs.test\r\n\r\n",
        Refusal::BadRequest,
    );
    refused(
        "GET ftp://abs.test/ HTTP/1.1\r\nHost: abs.test\r\n\r\n",
        Refusal::BadRequest,
    );
}

#[test]
fn long_lines_and_long_heads_are_refused_before_they_are_complete() {
    refused(&format!("GET /{}", "a".repeat(9000)), Refusal::UriTooLong);
    refused(
        &format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(9000)),
        Refusal::HeaderTooLarge,
    );
    let many = "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(600);
    refused(
        &format!("GET / HTTP/1.1\r\n{many}"),
        Refusal::HeaderTooLarge,
    );
}
