//! Flags of `promontory promql …`, in the order of `promtool promql`.

use clap::{Subcommand, ValueEnum};

/// `promontory promql …`.
#[derive(Debug, Subcommand)]
pub enum PromqlCommand {
    /// Lay a query out for people
    #[command(after_help = "Example: promontory promql format 'sum(rate(x[5m]))by(job)'")]
    Format {
        /// PromQL expression
        expr: String,
    },
    /// Change the label matchers of all selectors of a query
    #[command(subcommand)]
    LabelMatchers(MatchersCommand),
}

/// `promontory promql label-matchers …`.
#[derive(Debug, Subcommand)]
pub enum MatchersCommand {
    /// Put a matcher into every selector, instead of those of the same label
    #[command(after_help = "Example: promontory promql label-matchers set -t '=~' 'up / up offset 1d' job 'api|web'")]
    Set {
        /// Operator
        #[arg(short = 't', long, value_name = "OPERATOR", value_enum, default_value_t = MatcherType::Equal)]
        r#type: MatcherType,
        /// PromQL expression
        expr: String,
        /// Label
        name: String,
        /// Value or regular expression
        value: String,
    },
    /// Take the matchers of a label out of every selector
    Delete {
        /// PromQL expression
        expr: String,
        /// Label
        name: String,
    },
}

/// Operator of a matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MatcherType {
    /// The value
    #[value(name = "=")]
    Equal,
    /// Another value
    #[value(name = "!=")]
    NotEqual,
    /// A value that the regular expression matches
    #[value(name = "=~")]
    Regex,
    /// A value that it does not match
    #[value(name = "!~")]
    NotRegex,
}
