//! A trainer for candle image classifiers: optimizers, schedules, callbacks, checkpoints and exact resume.
