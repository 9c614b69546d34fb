//! Chooses whether a loop runs on rayon's threads or on the calling thread.
//!
//! A parallel loop that is started outside rayon's pool hands its work to another thread. It sleeps until
//! that thread has woken up and done the work. This takes some ten microseconds, more than a small op
//! takes.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

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
        items.with_producer(Everywhere(work));
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

/// Calls the function on each item, on all threads.
///
/// rayon's own loop over items is compiled anew for each kind of item and each function, which made half of the
/// machine code of this crate. So the items are put into a row first, and one loop over their numbers serves all.
struct Everywhere<F>(F);

impl<T: Send, F: Fn(T) + Sync> ProducerCallback<T> for Everywhere<F> {
    type Output = ();

    fn callback<P: Producer<Item = T>>(self, producer: P) {
        let Self(work) = self;
        let cell = |item| UnsafeCell::new(MaybeUninit::new(item));
        let items = Items(producer.into_iter().map(cell).collect());
        each_number(items.0.len(), &|number| {
            // SAFETY: the loop calls this once with each number.
            work(unsafe { items.take(number) });
        });
    }
}

/// Items that are each taken once, by any thread.
struct Items<T>(Vec<UnsafeCell<MaybeUninit<T>>>);

// SAFETY: items are only moved out, each to one thread.
unsafe impl<T: Send> Sync for Items<T> {}

impl<T> Items<T> {
    /// # Safety
    /// No number may be taken twice.
    unsafe fn take(&self, number: usize) -> T {
        // SAFETY: the item was written when the row was made, and the caller takes it only once.
        unsafe { (*self.0[number].get()).assume_init_read() }
    }
}

/// Calls `work` once with each number below `count`, on all threads.
fn each_number(count: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().for_each(work);
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
    fn items_are_dropped_once() {
        let item = std::sync::Arc::new(());
        let items = vec![item.clone(); 100];
        rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(|| {
            for_each(items.into_par_iter(), |item| {
                assert!(std::sync::Arc::strong_count(&item) > 1)
            });
        });
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
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
