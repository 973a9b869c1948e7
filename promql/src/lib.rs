//! PromQL: text and a [`Queryable`](promontory_model::Queryable) to values.
//!
//! Pure: no files, no clock, no runtime. A query is parsed into an [`ast`], evaluated by the [`engine`] (columnar,
//! fast) or by the [`reference`] evaluator (one step at a time, obvious, the oracle of the engine's tests), and
//! answers with a [`value::QueryOutput`].

pub mod annotations;
pub mod ast;
pub mod cache;
mod calendar;
pub mod complete;
pub mod engine;
pub mod error;
pub mod functions;
pub mod histogram;
mod kernels;
pub mod lexer;
pub mod lint;
pub mod notes;
pub mod parser;
mod plan;
pub mod printer;
pub mod promqltest;
pub mod ratio;
pub mod reference;
pub mod value;
