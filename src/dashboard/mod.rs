//! Grafana dashboards drawn on the server: JSON in, HTML with SVG out.
//!
//! The way of a panel: file → model → variables → queries → frames → scene → SVG. A page is complete without a
//! script. This module knows neither scraping nor the HTTP API; it asks a data source and answers requests.

#![allow(dead_code, reason = "the pages that use it come with the router")]

pub(crate) mod builtin;
pub(crate) mod color;
pub(crate) mod field;
pub(crate) mod frame;
pub(crate) mod html;
pub(crate) mod interpolate;
pub(crate) mod json;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod panels;
pub(crate) mod query;
pub(crate) mod reduce;
pub(crate) mod scene;
pub mod source;
pub(crate) mod ticks;
pub(crate) mod timerange;
pub(crate) mod units;
pub(crate) mod variables;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod testing;
