//! Grafana dashboards drawn on the server: JSON in, HTML with SVG out.
//!
//! The way of a panel: file → model → variables → queries → frames → scene → SVG. A page is complete without a
//! script. This module knows neither scraping nor the HTTP API; it asks a data source and answers requests.

pub(crate) mod adhoc;
pub(crate) mod annotations;
pub(crate) mod builtin;
mod check;
pub(crate) mod color;
mod explore;
mod expression;
pub(crate) mod field;
pub(crate) mod frame;
pub(crate) mod html;
pub(crate) mod interpolate;
pub(crate) mod json;
pub(crate) mod load;
pub(crate) mod model;
mod pages;
pub(crate) mod panels;
pub(crate) mod params;
mod parts;
pub(crate) mod pattern;
mod plan;
pub(crate) mod provider;
pub(crate) mod query;
pub(crate) mod reduce;
mod render;
pub(crate) mod repeat;
pub(crate) mod scene;
pub mod source;
mod state;
mod store;
pub(crate) mod ticks;
pub(crate) mod timerange;
mod transform;
pub(crate) mod units;
pub(crate) mod variables;

pub use check::{CheckedPanels, check};
pub use pages::{home, router};
pub use state::{DashboardOptions, DashboardSettings, Dashboards};

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod testing;
