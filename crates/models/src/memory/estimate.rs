//! The parts of an estimate, and what it depends on.

use candle_vision_ops::pool_threads;

use crate::{FrozenBatchNorm, Precision};

/// What the memory of a training step depends on besides the network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Number of images in a batch.
    pub batch: usize,
    /// Number of tensors of a parameter's size that the optimizer keeps for each: 0 for plain SGD, 1 with momentum, 2
    /// for Adam. 0 by default.
    pub optimizer_tensors: usize,
    /// Number of processes that share out the optimizer's state. 1 by default.
    pub optimizer_ranks: usize,
    /// Whether several batches make one step, so that the gradients of those before wait for the next ones. False by default.
    pub accumulates: bool,
    /// The number type of feature maps on a device that computes in it. `f32` by default.
    pub precision: Precision,
    /// How batch norm behaves while its parameters are frozen.
    pub frozen_batch_norm: FrozenBatchNorm,
    /// Number of batches that a loader makes in advance, in 32-bit floats. 0 by default.
    pub loader_batches: usize,
    /// Number of further copies of all parameters, such as running averages. 0 by default.
    pub averages: usize,
    /// Number of threads that compute on a CPU. The size of the pool by default.
    pub threads: usize,
    /// Bytes that the process takes without the network. 0 by default.
    pub program: usize,
    /// Whether the step runs on a card, although the network was measured on a CPU. False by default.
    pub on_card: bool,
    /// Whether steps on a card are repeated from a graph, and the number of images of the steps that are not: those of a
    /// smaller last batch of an epoch, or 0. `None` by default: no graph.
    pub captured: Option<usize>,
    /// Whether there are evaluation passes between the steps, as in a run with validation. False by default.
    pub validation: bool,
    /// Whether the process has an allocator that keeps freed memory, and so takes more than what is in use. False by
    /// default.
    pub keeping_allocator: bool,
}

impl MemoryConfig {
    /// Batches of this size, with an optimizer without state.
    pub fn new(batch: usize) -> Self {
        Self {
            batch,
            optimizer_tensors: 0,
            optimizer_ranks: 1,
            accumulates: false,
            precision: Precision::default(),
            frozen_batch_norm: FrozenBatchNorm::default(),
            loader_batches: 0,
            averages: 0,
            threads: pool_threads(),
            program: 0,
            on_card: false,
            captured: None,
            validation: false,
            keeping_allocator: false,
        }
    }

    /// Sets the number of images in a batch.
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Sets the number of tensors that the optimizer keeps for each parameter.
    pub fn optimizer_tensors(self, optimizer_tensors: usize) -> Self {
        Self { optimizer_tensors, ..self }
    }

    /// Sets the number of processes that share out the optimizer's state.
    pub fn optimizer_ranks(self, optimizer_ranks: usize) -> Self {
        Self { optimizer_ranks, ..self }
    }

    /// Sets whether several batches make one step.
    pub fn accumulates(self, accumulates: bool) -> Self {
        Self { accumulates, ..self }
    }

    /// Sets the number type of feature maps.
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Sets how batch norm behaves while its parameters are frozen.
    pub fn frozen_batch_norm(self, frozen_batch_norm: FrozenBatchNorm) -> Self {
        Self { frozen_batch_norm, ..self }
    }

    /// Sets the number of batches that a loader makes in advance.
    pub fn loader_batches(self, loader_batches: usize) -> Self {
        Self { loader_batches, ..self }
    }

    /// Sets the number of further copies of all parameters.
    pub fn averages(self, averages: usize) -> Self {
        Self { averages, ..self }
    }

    /// Sets the number of threads that compute on a CPU.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Sets the bytes that the process takes without the network.
    pub fn program(self, program: usize) -> Self {
        Self { program, ..self }
    }

    /// Sets whether the step runs on a card, although the network was measured on a CPU.
    pub fn on_card(self, on_card: bool) -> Self {
        Self { on_card, ..self }
    }

    /// Sets whether steps on a card are repeated from a graph, and the number of images of the steps that are not.
    pub fn captured(self, captured: Option<usize>) -> Self {
        Self { captured, ..self }
    }

    /// Sets whether there are evaluation passes between the steps.
    pub fn validation(self, validation: bool) -> Self {
        Self { validation, ..self }
    }

    /// Sets whether the process has an allocator that keeps freed memory, such as jemalloc with
    /// `dirty_decay_ms:-1`.
    pub fn keeping_allocator(self, keeping_allocator: bool) -> Self {
        Self { keeping_allocator, ..self }
    }
}

/// What a training step takes, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryEstimate {
    /// Number of images in a batch.
    pub batch: usize,
    /// The process without the network, as [`MemoryConfig::program`] says.
    pub program: usize,
    /// Learned parameters, frozen ones included.
    pub parameters: usize,
    /// Buffers, such as running statistics.
    pub buffers: usize,
    /// Gradients of the parameters that are trained: two for each if several batches make one step.
    pub gradients: usize,
    /// The optimizer's state.
    pub optimizer: usize,
    /// Further copies of the parameters.
    pub averages: usize,
    /// The images of a batch as 8-bit values.
    pub images_8_bit: usize,
    /// The images of a batch, and of those that the loader makes in advance, as 32-bit floats.
    pub images: usize,
    /// What is kept for the backward pass: feature maps, masks, statistics, and in half precision copies of weights.
    pub activations: usize,
    /// What the backward pass needs beside the gradients of the parameters, at its largest step.
    pub backward: usize,
    /// Working memory of the convolutions of all threads on a CPU. Winograd's kernels keep transformed weights and
    /// tiles there, other kernels packed weights and patches.
    pub workspaces: usize,
    /// What evaluation passes keep beside all this: packed weights, as far as they do not fit into what a training pass has freed. Where
    /// Winograd's kernels are used they are up to four times as large as the weights.
    pub validation: usize,
    /// What there is on a card beside a graph, which has memory of its own: the batch that the graph reads, and a plain step
    /// for the smaller last batch of an epoch.
    pub beside_graph: usize,
    /// What an allocator that keeps freed memory takes beside all this: memory that was freed and fits no later request.
    /// Unlike the other parts it is not counted but follows from measurements.
    pub allocator: usize,
    /// The part of the workspaces of the thread that runs the step.
    pub workspace_of_caller: usize,
    /// The part of the workspaces of each further thread.
    pub workspace_of_helper: usize,
}

impl MemoryEstimate {
    /// The sum of all parts.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The parts with their names.
    pub fn parts(&self) -> [(&'static str, usize); 14] {
        [
            ("program", self.program),
            ("parameters", self.parameters),
            ("buffers", self.buffers),
            ("gradients", self.gradients),
            ("optimizer state", self.optimizer),
            ("averages of the weights", self.averages),
            ("images, 8-bit", self.images_8_bit),
            ("images, floats", self.images),
            ("activations", self.activations),
            ("backward pass", self.backward),
            ("workspaces", self.workspaces),
            ("validation", self.validation),
            ("beside the graph", self.beside_graph),
            ("allocator", self.allocator),
        ]
    }

    /// What evaluation passes take beside the parts that are set already, if they prepare so many bytes.
    ///
    /// They take again what the training pass has freed: gradients have the sizes of the copies of weights, and the packed weights fit
    /// into a part of the memory of feature maps. This part follows from measurements of ResNet18 and ResNet50.
    pub(super) fn of_validation(&self, prepared: usize) -> usize {
        const TAKEN_AGAIN: f64 = 0.6;
        let passing = self.activations + self.backward;
        let again = self.gradients + (TAKEN_AGAIN * passing as f64) as usize;
        prepared.saturating_sub(again)
    }

    /// What the allocator of the program, jemalloc, takes for the parts on a CPU that are set already.
    ///
    /// The numbers follow from the difference between the memory of a process and `counted`, over seven networks and batches of 2 to
    /// 4096. They are the same for every network.
    pub(super) fn of_allocator(&self, threads: usize) -> usize {
        // Small blocks, such as statistics and the graph, and code that runs for the first time.
        const OF_PROCESS: usize = 15 << 19;
        // The products of the crate `gemm` take some 2 MiB for each thread. Without convolutions the loops of small layers stay on the
        // calling thread.
        const OF_CONVOLUTIONS: usize = 1 << 20;
        const OF_THREAD: usize = 2 << 20;
        // The gradients of feature maps at the largest step of the backward pass are the largest blocks. Smaller blocks come to lie in
        // the holes that they leave, so the next large block fits into a part of them only.
        const SHARE_OF_BACKWARD: f64 = 0.45;
        // The same of large weights, whose gradients are freed in every step.
        const SHARE_OF_LASTING: f64 = 0.075;
        let has_convolutions = self.workspace_of_helper > 0;
        let helpers = if has_convolutions { threads.saturating_sub(1) } else { 0 };
        let process = OF_PROCESS + if has_convolutions { OF_CONVOLUTIONS } else { 0 };
        let lasting = self.parameters + self.gradients;
        let shares = SHARE_OF_BACKWARD * self.backward as f64 + SHARE_OF_LASTING * lasting as f64;
        process + OF_THREAD * helpers + shares as usize
    }
}
