//! Pairs of names and texts out of `application/x-www-form-urlencoded` and `multipart/form-data`.

use std::convert::Infallible;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use silverback_schema::form;

use crate::errors::ApiError;
use crate::texts;

/// Kong's limit (`max_post_args` in `kong/api/arguments.lua`).
const MAX_ARGUMENTS: usize = 1000;

type Pairs = Vec<(String, String)>;

/// The fields of `a=1&b=2`.
pub(super) fn urlencoded(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::bad(texts::BAD_FORM))?;
    let mut pairs = Pairs::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        push(&mut pairs, decode(name)?, decode(value)?)?;
    }
    Ok(form::decode(&pairs))
}

/// The fields of a multipart body. As in Kong, one whose boundary is not said has no fields.
pub(super) async fn multipart(
    content_type: &str,
    bytes: Bytes,
) -> Result<Map<String, Value>, ApiError> {
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return Ok(Map::new());
    };
    let broken = |_| ApiError::bad(texts::BAD_MULTIPART);
    let stream = futures::stream::once(async move { Ok::<_, Infallible>(bytes) });
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut pairs = Pairs::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let Some(name) = part.name().map(str::to_owned) else {
            continue;
        };
        let value = part.bytes().await.map_err(broken)?;
        let value = String::from_utf8(value.into()).map_err(|_| ApiError::bad(texts::BAD_FORM))?;
        push(&mut pairs, name, value)?;
    }
    Ok(form::decode_multipart(&pairs))
}

fn push(pairs: &mut Pairs, name: String, value: String) -> Result<(), ApiError> {
    if name.contains('\0') || value.contains('\0') {
        return Err(ApiError::bad(texts::NUL));
    }
    if pairs.len() == MAX_ARGUMENTS {
        return Err(ApiError::bad(texts::TOO_MANY_ARGUMENTS));
    }
    pairs.push((name, value));
    Ok(())
}

fn decode(text: &str) -> Result<String, ApiError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| ApiError::bad(texts::BAD_FORM))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text_of(e: ApiError) -> String {
        match e {
            ApiError::Json(_, body) => body["message"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pairs_are_decoded_strictly() {
        assert_eq!(
            Value::Object(urlencoded(b"a=%C3%A4+b&c&&d=").unwrap()),
            json!({ "a": "ä b", "c": "", "d": "" })
        );
        assert_eq!(text_of(urlencoded(b"a=%ff").unwrap_err()), texts::BAD_FORM);
        assert_eq!(text_of(urlencoded(b"a=\xff").unwrap_err()), texts::BAD_FORM);
        assert_eq!(text_of(urlencoded(b"a=%00").unwrap_err()), texts::NUL);
        let many = vec!["a=1"; MAX_ARGUMENTS + 1].join("&");
        assert_eq!(
            text_of(urlencoded(many.as_bytes()).unwrap_err()),
            texts::TOO_MANY_ARGUMENTS
        );
    }

    #[tokio::test]
    async fn parts_of_a_multipart_body_are_fields() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nx\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"tags[]\"\r\n\r\na\r\n--B--\r\n";
        let got = multipart(
            "multipart/form-data; boundary=B",
            Bytes::from_static(body.as_bytes()),
        )
        .await
        .unwrap();
        assert_eq!(Value::Object(got), json!({ "name": "x", "tags": ["a"] }));
    }

    #[tokio::test]
    async fn multipart_without_boundary_is_empty_and_a_broken_one_an_error() {
        let body = Bytes::from_static(b"--B\r\n");
        assert!(
            multipart("multipart/form-data", body.clone())
                .await
                .unwrap()
                .is_empty()
        );
        let cut = multipart("multipart/form-data; boundary=B", body).await;
        assert_eq!(text_of(cut.unwrap_err()), texts::BAD_MULTIPART);
    }
}
