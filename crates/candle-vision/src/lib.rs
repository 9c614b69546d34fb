//! What torchvision, a trainer and Grad-CAM are for PyTorch, built in Rust on candle.
//!
//! This crate is the front door: it re-exports the parts, which also stand alone.
//!
//! | module | crate | what |
//! |---|---|---|
//! | [`ops`] | `candle-vision-ops` | differentiable image operations with right gradients |
//! | [`data`] | `candle-vision-data` | data sets, transforms with torchvision's results, the loader |
//! | [`models`] | `candle-vision-models` | networks under torchvision's names, weights, taps |
//! | [`train`] | `candle-vision-train` | optimizers, schedules, the trainer, checkpoints |
//! | [`explain`] | `candle-vision-explain` | class activation maps |
//! | [`report`] | `candle-vision-report` | curves, overlays, TensorBoard events |

pub use candle_vision_data as data;
pub use candle_vision_explain as explain;
pub use candle_vision_models as models;
pub use candle_vision_ops as ops;
pub use candle_vision_report as report;
pub use candle_vision_train as train;
