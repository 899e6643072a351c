//! In whose name functions are invoked.

use aws_credential_types::Credentials;

use crate::Config;

/// The key of the configuration, else that of the node's environment. What else AWS' own programs ask (profiles, metadata of a machine,
/// containers and clusters) is not asked.
pub(crate) fn credentials(
    config: &Config,
    env: impl Fn(&str) -> Option<String>,
) -> Option<Credentials> {
    let given = |value: Option<String>| value.filter(|v| !v.is_empty());
    if let (Some(key), Some(secret)) = (
        given(config.aws_key.clone()),
        given(config.aws_secret.clone()),
    ) {
        return Some(Credentials::new(key, secret, None, None, "configuration"));
    }
    let var = |name| given(env(name));
    Some(Credentials::new(
        var("AWS_ACCESS_KEY_ID")?,
        var("AWS_SECRET_ACCESS_KEY")?,
        var("AWS_SESSION_TOKEN"),
        None,
        "environment",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::settings;

    fn environment(name: &str) -> Option<String> {
        match name {
            "AWS_ACCESS_KEY_ID" => Some("of the node".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("s".to_owned()),
            "AWS_SESSION_TOKEN" => Some("t".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn the_configurations_key_comes_before_the_environments() {
        let of = |given| credentials(&settings(given), environment).unwrap();
        let own = of(json!({"aws_key": "k", "aws_secret": "s"}));
        assert_eq!((own.access_key_id(), own.session_token()), ("k", None));
        let node = of(json!({}));
        assert_eq!(
            (node.access_key_id(), node.session_token()),
            ("of the node", Some("t"))
        );
    }

    #[test]
    fn without_either_there_are_none() {
        let config = settings(json!({}));
        assert!(credentials(&config, |_| None).is_none());
        let empty = |_: &str| Some(String::new());
        assert!(credentials(&config, empty).is_none());
    }
}
