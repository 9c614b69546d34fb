//! candle-nn's layers in networks here, and networks here as candle-nn's modules.
//!
//! | from | to | by |
//! |---|---|---|
//! | a network of candle-nn | a [`Model`](crate::Model): trained, saved, explained | [`CandleNet`] |
//! | a [`Model`](crate::Model) | `candle_nn::Module`, in evaluation | [`AsModule`] |
//! | layers of candle-nn | part of a network of one's own | [`ParameterBuilder::candle_nn`](crate::ParameterBuilder::candle_nn) |
//!
//! candle-nn's layers are made of candle's own ops, so `backward` takes candle's path through them, which is
//! slower; the trainer says so once.

mod as_module;
mod candle_net;
mod var_builder;

pub use as_module::AsModule;
pub use candle_net::CandleNet;
