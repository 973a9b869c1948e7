//! lib
pub mod cli;
