//! How much working memory the kernels keep. It is counted from shapes, before anything runs.

/// One of the three products of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// The forward pass.
    Output,
    /// The gradient of the input.
    InputGradient,
    /// The gradient of the kernel.
    KernelGradient,
}

impl Product {
    /// All three, in the order of a training step.
    pub const ALL: [Self; 3] = [Self::Output, Self::KernelGradient, Self::InputGradient];
}

/// The working memory of one call, as the sizes of its buffers in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workspace {
    /// Buffers of the thread that calls.
    pub shared: Vec<usize>,
    /// Buffers of each thread that works, the calling one included. It holds them beside the shared ones.
    pub per_thread: Vec<usize>,
}

impl Workspace {
    /// Buffers of so many `f32` values.
    pub(crate) fn of_floats(shared: &[usize], per_thread: &[usize]) -> Self {
        let bytes = |lengths: &[usize]| {
            lengths.iter().map(|len| len * size_of::<f32>()).filter(|&bytes| bytes > 0).collect()
        };
        Self { shared: bytes(shared), per_thread: bytes(per_thread) }
    }
}

/// The buffers that one thread keeps from call to call. They follow the same rules as the real ones: a call takes
/// the smallest that is large enough, and of more than four the smallest is freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptBuffers(Vec<usize>);

impl KeptBuffers {
    /// A call on the thread that hands out the work.
    pub fn take_all(&mut self, workspace: &Workspace) {
        self.take(workspace.shared.iter().chain(&workspace.per_thread));
    }

    /// A call on a thread that only helps.
    pub fn take_own(&mut self, workspace: &Workspace) {
        self.take(workspace.per_thread.iter());
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        self.0.iter().sum()
    }

    fn take<'a>(&mut self, sizes: impl Iterator<Item = &'a usize>) {
        let mut held = Vec::new();
        for &size in sizes {
            let fitting =
                (0..self.0.len()).filter(|&i| self.0[i] >= size).min_by_key(|&i| self.0[i]);
            held.push(fitting.map_or(size, |i| self.0.swap_remove(i)));
        }
        for size in held.into_iter().rev() {
            self.0.push(size);
            if self.0.len() > crate::scratch::KEPT {
                let smallest = (0..self.0.len()).min_by_key(|&i| self.0[i]);
                self.0.swap_remove(smallest.expect("there are more than KEPT buffers"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_buffers_stay_and_serve_smaller_calls() {
        let mut kept = KeptBuffers::default();
        kept.take_all(&Workspace { shared: vec![100, 50], per_thread: vec![10] });
        assert_eq!(kept.bytes(), 160);
        kept.take_own(&Workspace { shared: vec![1000], per_thread: vec![40, 80] });
        assert_eq!(kept.bytes(), 160);
        kept.take_all(&Workspace { shared: vec![200], per_thread: vec![20, 120] });
        assert_eq!(kept.0.len(), crate::scratch::KEPT);
    }
}
