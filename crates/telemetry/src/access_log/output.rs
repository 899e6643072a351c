//! Where an access log goes: a file, one of the standard streams, or nowhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{AccessLogError, LogFormat};
use crate::sink::Output;

/// The destination of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nothing is written.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to and created when missing.
    File(PathBuf),
}

impl LogTarget {
    /// Reads one of Kong's `*_access_log` settings: `off`, or a path and optionally the name of a format
    /// (`logs/access.log json`). A relative path is taken from `prefix` (kong.conf.default,
    /// `proxy_access_log`). `/dev/stdout` and `/dev/stderr` mean the streams themselves, because opening
    /// these paths fails where a stream is a socket, as under systemd.
    ///
    /// # Errors
    /// [`AccessLogError::Malformed`], [`AccessLogError::UnknownFormat`], and for `syslog:`
    /// [`AccessLogError::UnsupportedTarget`].
    pub fn parse(setting: &str, prefix: &Path) -> Result<(Self, LogFormat), AccessLogError> {
        let mut words = setting.split_whitespace();
        let (Some(place), format, None) = (words.next(), words.next(), words.next()) else {
            return Err(AccessLogError::Malformed(setting.to_owned()));
        };
        let format = match format {
            None | Some("kong_log_format") => LogFormat::Kong,
            Some("combined") => LogFormat::Combined,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(AccessLogError::UnknownFormat(other.to_owned())),
        };
        let target = match place {
            "off" => Self::Off,
            "/dev/stdout" => Self::Stdout,
            "/dev/stderr" | "stderr" => Self::Stderr,
            _ if place.starts_with("syslog:") => {
                return Err(AccessLogError::UnsupportedTarget(place.to_owned()));
            }
            _ => Self::File(prefix.join(place)),
        };
        Ok((target, format))
    }
}

/// Opens `path` for appending, creating it when missing.
pub(crate) fn open_for_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

pub(super) fn open(target: &LogTarget) -> Result<Option<Destination>, AccessLogError> {
    Ok(Some(match target {
        LogTarget::Off => return Ok(None),
        LogTarget::Stdout => Destination::Stream(Box::new(io::stdout())),
        LogTarget::Stderr => Destination::Stream(Box::new(io::stderr())),
        LogTarget::File(path) => {
            let file = open_for_append(path).map_err(|source| AccessLogError::Open {
                path: path.clone(),
                source,
            })?;
            Destination::File {
                file,
                path: path.clone(),
            }
        }
    }))
}

pub(super) enum Destination {
    Stream(Box<dyn Write + Send>),
    File { file: File, path: PathBuf },
}

impl Write for Destination {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(data),
            Self::File { file, .. } => file.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

impl Output for Destination {
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { file, path } = self {
            *file = open_for_append(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(setting: &str) -> Result<(LogTarget, LogFormat), AccessLogError> {
        LogTarget::parse(setting, Path::new("/usr/local/kong"))
    }

    #[test]
    fn relative_paths_lie_below_the_prefix() {
        let relative = LogTarget::File("/usr/local/kong/logs/access.log".into());
        assert_eq!(
            parse("logs/access.log").unwrap(),
            (relative, LogFormat::Kong)
        );
        let absolute = LogTarget::File("/var/log/a.log".into());
        assert_eq!(
            parse("/var/log/a.log").unwrap(),
            (absolute, LogFormat::Kong)
        );
    }

    #[test]
    fn streams_and_off_are_recognised() {
        assert_eq!(parse("off").unwrap().0, LogTarget::Off);
        assert_eq!(parse("/dev/stdout").unwrap().0, LogTarget::Stdout);
        assert_eq!(
            parse("/dev/stderr json").unwrap(),
            (LogTarget::Stderr, LogFormat::Json)
        );
    }

    #[test]
    fn the_second_word_names_a_format() {
        assert_eq!(parse("a.log combined").unwrap().1, LogFormat::Combined);
        assert_eq!(parse("a.log kong_log_format").unwrap().1, LogFormat::Kong);
        assert!(
            matches!(parse("a.log fancy"), Err(AccessLogError::UnknownFormat(name)) if name == "fancy")
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        assert!(matches!(parse(""), Err(AccessLogError::Malformed(_))));
        assert!(matches!(
            parse("a.log json gzip"),
            Err(AccessLogError::Malformed(_))
        ));
        assert!(matches!(
            parse("syslog:server=x"),
            Err(AccessLogError::UnsupportedTarget(_))
        ));
    }
}
