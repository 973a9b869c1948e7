//! A small real language model server that looks like a large one from outside.
//!
//! A character-level n-gram model is trained at start on a text in the package and served over HTTP the way GPU
//! servers do: a bounded queue, continuous batching, a block-wise context cache with prefix sharing and preemption.
//! Every number of its `/metrics` is measured on real requests; names, labels and buckets of the `vllm:` metrics are
//! those that vLLM's public dashboards query.
//!
//! What is not real is the pace: computing a step of so small a model takes microseconds, so each step is stretched by
//! a configured cost ([`StepCost`]) to last about as long as on a GPU. Queues, batches, occupancy and latencies follow
//! from that pace and the load alone.

mod api;
mod blocks;
mod drift;
mod engine;
mod exposition;
pub mod load;
mod metrics;
mod model;
mod rng;
mod scheduler;
mod server;
mod traffic;

pub use api::BODY_BYTES_MAX;
pub use engine::StepCost;
pub use model::{Model, ORDER_MAX, Sampled, TRAINING_BYTES_MAX, Token, TrainError, VOCABULARY_MAX};
pub use server::{CONNECTIONS_MAX, ModelServer, ServerConfig, ServerHandle, StartError};

/// The text that the model learns from: about 250 short paragraphs of plain English, parted by blank lines.
pub const TRAINING_TEXT: &str = include_str!("training.txt");
