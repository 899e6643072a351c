//! The lines that an exchange gives.

use std::fmt::{self, Display, Write};

use silverback_export::statsd::{
    ConsumerIdentifier, Identity, Measure, Measured, Replaced, StatType,
};
use silverback_plugin::facts::{WORKSPACE_ID, WORKSPACE_NAME};
use silverback_plugin::{LogCtx, ServiceInfo};

use crate::config::{Config, MetricConfig, Name, ServiceIdentifier, TagStyle, WorkspaceIdentifier};

/// A metric, ready to be written.
pub(crate) struct Metric {
    what: What,
    /// What stands behind the value.
    suffix: String,
    consumer: ConsumerIdentifier,
    service: ServiceIdentifier,
    workspace: &'static str,
}

/// What a metric measures.
enum What {
    Measure(Measure),
    UniqueUsers,
    RequestPerUser,
    StatusCount,
    StatusCountPerUser,
    StatusCountPerWorkspace,
    StatusCountPerUserPerRoute,
}

impl Metric {
    /// The metric of a configuration; nothing for one that is never sent.
    pub(crate) fn new(metric: &MetricConfig, config: &Config) -> Option<Self> {
        let what = match metric.name {
            Name::UniqueUsers => What::UniqueUsers,
            Name::RequestPerUser => What::RequestPerUser,
            Name::StatusCount => What::StatusCount,
            Name::StatusCountPerUser => What::StatusCountPerUser,
            Name::StatusCountPerWorkspace => What::StatusCountPerWorkspace,
            Name::StatusCountPerUserPerRoute => What::StatusCountPerUserPerRoute,
            number => What::Measure(number.measure()?),
        };
        // As in Kong the type that is configured counts for numbers only.
        let suffix = match what {
            What::Measure(_) => metric.stat_type.suffix(metric.sample_rate),
            What::UniqueUsers => StatType::Set.suffix(None),
            _ => StatType::Counter.suffix(metric.sample_rate),
        };
        let workspace = metric.workspace_identifier;
        let workspace = workspace.unwrap_or(config.workspace_identifier_default);
        Some(Metric {
            what,
            suffix,
            consumer: metric
                .consumer_identifier
                .unwrap_or(config.consumer_identifier_default),
            service: metric
                .service_identifier
                .unwrap_or(config.service_identifier_default),
            workspace: match workspace {
                WorkspaceIdentifier::WorkspaceId => WORKSPACE_ID,
                WorkspaceIdentifier::WorkspaceName => WORKSPACE_NAME,
            },
        })
    }

    /// Appends the metric's line, where the exchange has one: what it is about stands in the name.
    pub(crate) fn write(
        &self,
        lines: &mut String,
        prefix: &str,
        ctx: &LogCtx<'_>,
        measured: &Measured,
    ) -> fmt::Result {
        let (status, suffix) = (ctx.facts.status, &self.suffix);
        let scope = Scope(ctx.service.map(|s| self.service.of(s)));
        let user = ctx.facts.consumer.as_deref();
        let user = user.and_then(|c| self.consumer.of(c));
        match (&self.what, user) {
            (What::Measure(what), _) => match measured.get(*what) {
                -1 => Ok(()),
                value => {
                    let stat = what.stat();
                    writeln!(lines, "{prefix}.{scope}.{stat}:{value}{suffix}")
                }
            },
            (What::StatusCount, _) => {
                writeln!(lines, "{prefix}.{scope}.status.{status}:1{suffix}")
            }
            (What::StatusCountPerWorkspace, _) => {
                let workspace = self.workspace;
                writeln!(
                    lines,
                    "{prefix}.{scope}.workspace.{workspace}.status.{status}:1{suffix}"
                )
            }
            (What::UniqueUsers, Some(user)) => {
                writeln!(lines, "{prefix}.{scope}.user.uniques:{user}{suffix}")
            }
            (What::RequestPerUser, Some(user)) => {
                writeln!(
                    lines,
                    "{prefix}.{scope}.user.{user}.request.count:1{suffix}"
                )
            }
            (What::StatusCountPerUser, Some(user)) => {
                writeln!(
                    lines,
                    "{prefix}.{scope}.user.{user}.status.{status}:1{suffix}"
                )
            }
            (What::StatusCountPerUserPerRoute, Some(user)) => match ctx.route {
                Some(route) => writeln!(
                    lines,
                    "{prefix}.route.{}.user.{user}.status.{status}:1{suffix}",
                    route.id
                ),
                None => Ok(()),
            },
            (_, None) => Ok(()),
        }
    }

    /// Appends the metric's line with what it is about as tags. As in Kong only numbers have one, and without a service there are no tags.
    pub(crate) fn write_tagged(
        &self,
        lines: &mut String,
        prefix: &str,
        style: TagStyle,
        node: &str,
        ctx: &LogCtx<'_>,
        measured: &Measured,
    ) -> fmt::Result {
        let What::Measure(what) = self.what else {
            return Ok(());
        };
        let value = measured.get(what);
        if value == -1 {
            return Ok(());
        }
        let (stat, suffix) = (what.stat(), &self.suffix);
        let Some(service) = ctx.service.and_then(|s| self.service.of(s)) else {
            return writeln!(lines, "{prefix}.{stat}:{value}{suffix}");
        };
        let tags = |sign| Tags {
            metric: self,
            service,
            node,
            ctx,
            sign,
        };
        match style {
            TagStyle::Dogstatsd => {
                writeln!(lines, "{prefix}.{stat}:{value}{suffix}|#{}", tags(':'))
            }
            TagStyle::Influxdb => {
                writeln!(lines, "{prefix}.{stat},{}:{value}{suffix}", tags('='))
            }
            TagStyle::Librato => {
                writeln!(lines, "{prefix}.{stat}#{}:{value}{suffix}", tags('='))
            }
            TagStyle::Signalfx => {
                writeln!(lines, "{prefix}.{stat}[{}]:{value}{suffix}", tags('='))
            }
        }
    }
}

impl ServiceIdentifier {
    /// That of a service, which may have none.
    fn of(self, service: &ServiceInfo) -> Option<Identity<'_>> {
        let name = service.name.as_deref().map(Identity::Text);
        match self {
            ServiceIdentifier::ServiceId => Some(Identity::Id(service.id)),
            ServiceIdentifier::ServiceName => name,
            ServiceIdentifier::ServiceHost => Some(Identity::Text(&service.host)),
            ServiceIdentifier::ServiceNameOrHost => name.or(Some(Identity::Text(&service.host))),
        }
    }
}

/// What a metric is about, as a part of its name: a service, if there is one.
struct Scope<'a>(Option<Option<Identity<'a>>>);

impl Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("global.unmatched"),
            Some(None) => f.write_str("service.unnamed"),
            Some(Some(Identity::Text(text))) => {
                write!(f, "service.{}", Replaced(text, '.', '_'))
            }
            Some(Some(id)) => write!(f, "service.{id}"),
        }
    }
}

/// What a metric is about, as tags.
struct Tags<'a> {
    metric: &'a Metric,
    service: Identity<'a>,
    node: &'a str,
    ctx: &'a LogCtx<'a>,
    /// What stands between a tag and its value.
    sign: char,
}

impl Display for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, facts) = (self.sign, self.ctx.facts);
        write!(f, "service{sign}{}", self.service)?;
        if let Some(route) = self.ctx.route {
            match &route.name {
                Some(name) => write!(f, ",route{sign}{name}")?,
                None => write!(f, ",route{sign}{}", route.id)?,
            }
        }
        write!(f, ",workspace{sign}{}", self.metric.workspace)?;
        let consumer = facts.consumer.as_deref();
        if let Some(consumer) = consumer.and_then(|c| self.metric.consumer.of(c)) {
            write!(f, ",consumer{sign}{consumer}")?;
        }
        write!(f, ",node{sign}{},status{sign}{}", self.node, facts.status)
    }
}
