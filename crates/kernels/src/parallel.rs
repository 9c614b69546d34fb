//! Chooses whether a loop runs on rayon's threads or on the calling thread.
//!
//! A parallel loop that is started outside rayon's pool hands its work to another thread. It sleeps until
//! that thread has woken up and done the work. This takes some ten microseconds, more than a small op
//! takes.

use rayon::iter::plumbing::{Producer, ProducerCallback};
use rayon::prelude::*;

/// Work that takes less time than waking another thread, as a number of elements that are read or written
/// once.
const SMALL: usize = 1 << 16;

/// `items.for_each(work)`. With one thread or one item it stays on the calling thread.
pub(crate) fn for_each<I, F>(items: I, work: F)
where
    I: IndexedParallelIterator,
    F: Fn(I::Item) + Sync + Send,
{
    if rayon::current_num_threads() == 1 || items.len() <= 1 {
        items.with_producer(Here(work));
    } else {
        items.for_each(work);
    }
}

/// As [`for_each`], for a loop over `elements` elements in total. A short loop stays on the calling thread.
pub(crate) fn for_each_of<I, F>(elements: usize, items: I, work: F)
where
    I: IndexedParallelIterator,
    F: Fn(I::Item) + Sync + Send,
{
    if elements <= SMALL {
        items.with_producer(Here(work));
    } else {
        for_each(items, work);
    }
}

/// Calls the function on each item in turn, on the calling thread.
struct Here<F>(F);

impl<T, F: Fn(T)> ProducerCallback<T> for Here<F> {
    type Output = ();

    fn callback<P: Producer<Item = T>>(self, producer: P) {
        producer.into_iter().for_each(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    /// The sum of what was seen, and whether another thread saw any of it.
    fn run(threads: usize, items: usize, elements: Option<usize>) -> (usize, bool) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let here = thread::current().id();
            let seen = Mutex::new((0, false));
            let work = |item| {
                let mut seen = seen.lock().unwrap();
                seen.0 += item;
                seen.1 |= thread::current().id() != here;
            };
            let items = (0..items).into_par_iter();
            match elements {
                None => for_each(items, work),
                Some(elements) => for_each_of(elements, items, work),
            }
            seen.into_inner().unwrap()
        })
    }

    #[test]
    fn every_item_is_seen_once() {
        for threads in [1, 2, 3] {
            for elements in [None, Some(10), Some(SMALL + 1)] {
                assert_eq!(run(threads, 1000, elements).0, 999 * 500);
                assert_eq!(run(threads, 0, elements).0, 0);
            }
        }
    }

    #[test]
    fn short_loops_stay_on_their_thread() {
        assert!(!run(3, 1000, Some(SMALL)).1);
        assert!(!run(3, 1, None).1);
        // From outside of any pool too.
        let here = thread::current().id();
        for_each_of(SMALL, (0..100).into_par_iter(), |_: usize| {
            assert_eq!(thread::current().id(), here);
        });
    }
}
