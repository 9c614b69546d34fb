//! The memory of a card, as numbers.

/// The memory of a CUDA card, in bytes, as its driver counts it ([`card_memory`](crate::card_memory)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CardMemory {
    /// All of the card's memory.
    pub total: u64,
    /// What no process has taken.
    pub free: u64,
    /// What this process's memory pool has taken for tensors. The pool keeps what tensors no longer need.
    pub in_pool: u64,
    /// What the graphs of this process have taken ([`Captured`](crate::Captured)).
    pub in_graphs: u64,
    /// The limit that [`limit_card_memory`](crate::limit_card_memory) set.
    pub limit: Option<u64>,
}

impl CardMemory {
    /// What this process has taken for tensors and graphs, without its context, its kernels and the libraries' own memory.
    pub fn taken(&self) -> u64 {
        self.in_pool + self.in_graphs
    }

    /// The most that this process can take for tensors and graphs: what it has taken and what is free, within the limit.
    pub fn available(&self) -> u64 {
        (self.taken() + self.free).min(self.limit.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_and_other_processes_both_count() {
        let memory = CardMemory { total: 100, free: 40, in_pool: 20, in_graphs: 5, limit: None };
        assert_eq!((memory.taken(), memory.available()), (25, 65));
        assert_eq!(CardMemory { limit: Some(30), ..memory }.available(), 30);
        assert_eq!(CardMemory { limit: Some(90), ..memory }.available(), 65);
    }
}
