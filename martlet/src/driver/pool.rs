//! A small pool of threads for work that blocks: syncs, cold reads, scans, encoding.
//!
//! One hand-over costs some 3 µs, a quarter of what the runtime's own blocking pool costs per call. The queue has no
//! bound of its own: every job is an effect of an engine, and an engine's effects are bounded by its limits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs in the order they came. Dropping the last handle ends them after the queue is empty.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// `threads` threads named `name`. Errors: the system refuses a thread.
    pub fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        for _ in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || shared.work())?;
        }
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// Runs `job` on one of the threads.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let shared = &self.0.0;
        shared.lock().jobs.push_back(Box::new(job));
        shared.wake.notify_one();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_all();
    }
}

impl Shared {
    // No job runs under this lock, so a poisoned one still guards a whole queue.
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let job = {
                let mut queue = self.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if queue.closed {
                        return;
                    }
                    queue = self
                        .wake
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            };
            // A bug in one volume's work must not take the thread away from the others (P10).
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job panicked; its volume may have stopped");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn runs_every_job_and_outlives_a_panic() {
        let pool = Pool::start("test", 2).unwrap();
        let (tx, rx) = mpsc::channel();
        pool.run(|| panic!("a job that fails"));
        pool.run(|| panic!("a job that fails"));
        for n in 0..100 {
            let tx = tx.clone();
            pool.run(move || tx.send(n).unwrap());
        }
        drop(tx);
        let mut seen: Vec<i32> = rx.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
