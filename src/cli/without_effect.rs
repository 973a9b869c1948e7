//! Flags of Prometheus that mean nothing here: taken, so that its units, charts and operators start this server too, and
//! named in the log. What would change answers is not among them.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

/// Flags and why they have no effect.
const FLAGS: &[(&str, &[&str])] = &[
    (
        "there are dashboards instead of consoles, and one look for all",
        &["web.console.templates", "web.console.libraries", "web.page-title", "web.user-assets"],
    ),
    (
        "the folder is always locked, and files have their own format",
        &[
            "storage.tsdb.no-lockfile",
            "storage.tsdb.allow-overlapping-blocks",
            "storage.tsdb.allow-overlapping-compaction",
            "storage.tsdb.wal-compression",
            "storage.tsdb.wal-compression-type",
            "storage.tsdb.wal-segment-size",
            "storage.tsdb.min-block-duration",
            "storage.tsdb.max-block-duration",
            "storage.tsdb.samples-per-chunk",
            "storage.tsdb.block-reload-interval",
            "storage.tsdb.head-chunks-write-queue-size",
        ],
    ),
    (
        "limits of remote write and read are fixed",
        &[
            "storage.remote.flush-deadline",
            "storage.remote.read-sample-limit",
            "storage.remote.read-concurrent-limit",
            "storage.remote.read-max-bytes-in-frame",
            "web.remote-write-receiver.accepted-protobuf-messages",
        ],
    ),
    (
        "no rules are evaluated",
        &[
            "rules.alert.for-outage-tolerance",
            "rules.alert.for-grace-period",
            "rules.alert.resend-delay",
            "rules.max-concurrent-evals",
            "alertmanager.notification-queue-capacity",
            "alertmanager.notification-batch-size",
            "alertmanager.drain-notification-queue-on-shutdown",
            "alertmanager.timeout",
        ],
    ),
    (
        "threads and memory are not those of Go",
        &["auto-gomaxprocs", "auto-gomemlimit", "auto-gomemlimit.ratio", "auto-gomemlimit.refresh-interval"],
    ),
    (
        "timestamps are always aligned, and targets always taken over at once",
        &["scrape.adjust-timestamps", "scrape.timestamp-tolerance", "scrape.discovery-reload-interval"],
    ),
];

/// Those of them that are switches, which Prometheus knows with `no-` before them too.
const SWITCHES: &[&str] = &[
    "storage.tsdb.no-lockfile",
    "storage.tsdb.allow-overlapping-blocks",
    "storage.tsdb.allow-overlapping-compaction",
    "storage.tsdb.wal-compression",
    "alertmanager.drain-notification-queue-on-shutdown",
    "auto-gomaxprocs",
    "auto-gomemlimit",
    "scrape.adjust-timestamps",
];

/// Which of these flags were given, and why they have no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WithoutEffect(pub Vec<(&'static str, &'static str)>);

impl clap::Args for WithoutEffect {
    fn augment_args(mut command: clap::Command) -> clap::Command {
        for name in FLAGS.iter().flat_map(|(_, names)| *names).copied() {
            let flag = Arg::new(name).long(name).hide(true);
            command = command.arg(if SWITCHES.contains(&name) {
                flag.action(ArgAction::SetTrue).alias(format!("no-{name}"))
            } else {
                flag.action(ArgAction::Append)
            });
        }
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for WithoutEffect {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let all = FLAGS.iter().flat_map(|(reason, names)| names.iter().map(|name| (*name, *reason)));
        let given = all.filter(|(name, _)| matches.value_source(name) == Some(ValueSource::CommandLine));
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn units_of_prometheus_start() {
        let line = "promontory --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/data \
                    --web.console.templates=/etc/prometheus/consoles --web.console.libraries=/etc/prometheus/l \
                    --storage.tsdb.retention.time=15d --web.enable-lifecycle --no-storage.tsdb.wal-compression \
                    --storage.tsdb.no-lockfile --storage.tsdb.min-block-duration=2h --web.route-prefix=/ \
                    --web.external-url http://prometheus.example --rules.alert.resend-delay 1m";
        let args = Cli::try_parse_from(line.split_whitespace()).unwrap().serve;
        let given: Vec<_> = args.without_effect.0.iter().map(|(name, _)| *name).collect();
        let expected = [
            "web.console.templates",
            "web.console.libraries",
            "storage.tsdb.no-lockfile",
            "storage.tsdb.wal-compression",
            "storage.tsdb.min-block-duration",
            "rules.alert.resend-delay",
        ];
        assert_eq!(given, expected);
        assert!(Cli::try_parse_from(["promontory"]).unwrap().serve.without_effect.0.is_empty());
        assert!(Cli::try_parse_from(["promontory", "--agent"]).is_err());
    }
}
