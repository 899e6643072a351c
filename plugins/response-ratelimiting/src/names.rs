//! The limits of a configuration, as the upstream and the clients name them.

use std::collections::BTreeMap;
use std::ops::Range;

use silverback_limits::Period;
use silverback_plugin::{ConfigError, HeaderKey};

use crate::config::Limits;

/// One name and the headers of its limits.
pub(crate) struct Named {
    pub(crate) name: Box<str>,
    /// `X-RateLimit-Remaining-<name>`.
    pub(crate) remaining: HeaderKey,
    /// Which limits of the meter are its own.
    pub(crate) limits: Range<usize>,
    /// Of each of these the headers of the window.
    pub(crate) windows: Box<[WindowHeaders]>,
}

pub(crate) struct WindowHeaders {
    /// `X-RateLimit-Limit-<name>-<period>`.
    pub(crate) limit: HeaderKey,
    /// `X-RateLimit-Remaining-<name>-<period>`.
    pub(crate) remaining: HeaderKey,
}

/// Names all limits. The meter has them in the same order.
pub(crate) fn all(limits: &BTreeMap<String, Limits>) -> Result<Box<[Named]>, ConfigError> {
    let mut before = 0;
    let named = limits.iter().map(|(name, of)| {
        let key = |text: String| {
            let key = HeaderKey::new(&text);
            key.map_err(|_| ConfigError::new("limits", format!("no header can be named '{text}'")))
        };
        let window = |(period, _): (Period, f64)| {
            let period = period.name();
            Ok::<_, ConfigError>(WindowHeaders {
                limit: key(format!("X-RateLimit-Limit-{name}-{period}"))?,
                remaining: key(format!("X-RateLimit-Remaining-{name}-{period}"))?,
            })
        };
        let windows = of.periods().map(window).collect::<Result<Box<[_]>, _>>()?;
        let limits = before..before + windows.len();
        before = limits.end;
        Ok(Named {
            name: name.as_str().into(),
            remaining: key(format!("X-RateLimit-Remaining-{name}"))?,
            limits,
            windows,
        })
    });
    named.collect()
}
