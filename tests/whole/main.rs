//! Tests of the whole: the layers of the source tree and the binary as a user runs it.

mod admin;
mod api;
mod bad_input;
mod both;
mod browser;
mod client;
mod corpus;
mod durability;
mod histograms;
mod layers;
mod native;
mod operator;
mod parsers;
mod peers;
mod presets;
mod prometheus_blocks;
mod promtool;
mod python;
mod reload;
mod remote_send;
mod render;
mod scraped;
mod server;
mod tsdb;
mod write;
mod written;
