//! The server: everything that knows HTTP, tokio and processes.
//!
//! `app` alone knows every part and joins them; the parts do not know each other.

pub mod app;
mod bodies;
pub mod cli;
pub mod client;
pub mod commands;
mod credentials;
pub mod dashboard;
#[cfg(feature = "demo")]
pub mod demo;
pub mod discovery;
pub mod http;
pub mod ingest;
mod json_log;
mod lines;
pub mod listener;
pub mod remote;
pub mod scrape;
mod sources;
pub mod telemetry;
pub mod ui;
pub mod web_config;
