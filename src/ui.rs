//! What all pages share: the frame around them, style, script, and the operator pages' look.
//!
//! Knows neither scraping nor the HTTP API; pages get plain views of what they show.

pub mod assets;
pub mod discovery;
pub mod missing;
pub(crate) mod shell;
pub mod status;
pub mod targets;

pub(crate) use shell::{Shell, ThemeChoice, page};
