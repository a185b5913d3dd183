//! Runs a job from an untrusted source with a limit on its memory and its time.
//!
//! The job gets a thread of its own, whose allocations are counted. A thread that goes beyond a limit is not
//! unwound, which an allocator must not do, but put to sleep for ever at its next allocation; its caller goes
//! on.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::{Display, Formatter};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub struct Limits {
    pub memory: usize, // bytes allocated at a time
    pub time: Duration,
    pub stack: usize, // bytes; pages that nothing touches cost nothing
}

#[derive(Debug, PartialEq)]
pub enum Stopped {
    Memory(usize),
    Time(Duration),
    Panic,
    NoThread,
}

impl Display for Stopped {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(out, "it needs more than {bytes} bytes of memory"),
            Self::Time(time) => write!(out, "it takes more than {time:?}"),
            Self::Panic => write!(out, "the engine panicked"),
            Self::NoThread => write!(out, "no thread could be started"),
        }
    }
}

struct Meter {
    left: AtomicIsize,
    stopped: AtomicBool,
}

pub fn run<T: Send + 'static>(
    limits: Limits,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let meter =
        Arc::new(Meter { left: AtomicIsize::new(limits.memory as isize), stopped: AtomicBool::new(false) });
    let (sender, receiver) = channel();
    let of_thread = meter.clone();
    let body = move || {
        METER.set(Arc::as_ptr(&of_thread));
        let result = catch_unwind(AssertUnwindSafe(job));
        METER.set(null());
        if let Ok(result) = result {
            let _ = sender.send(result); // nobody listens any more if the time is over
        }
    };
    thread::Builder::new().stack_size(limits.stack).spawn(body).map_err(|_| Stopped::NoThread)?;

    let deadline = Instant::now() + limits.time;
    loop {
        match receiver.recv_timeout(Duration::from_millis(5)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Stopped::Panic),
            Err(RecvTimeoutError::Timeout) if meter.stopped.load(Relaxed) => {
                return Err(Stopped::Memory(limits.memory))
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                meter.stopped.store(true, Relaxed);
                return Err(Stopped::Time(limits.time));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

thread_local! {
    static METER: Cell<*const Meter> = const { Cell::new(null()) };
}

/// Counts `bytes` more (or fewer) as allocated by this thread.
fn charge(bytes: isize) {
    let meter = METER.get();
    if meter.is_null() {
        return;
    }
    // SAFETY: set by run() in this thread, which holds the meter until after it is taken away again.
    let meter = unsafe { &*meter };
    let left = meter.left.fetch_sub(bytes, Relaxed) - bytes;
    // A panic goes on to its end: while it is reported, a lock is held that all threads share.
    if bytes > 0 && (left < 0 || meter.stopped.load(Relaxed)) && !thread::panicking() {
        meter.stopped.store(true, Relaxed);
        loop {
            thread::sleep(Duration::MAX);
        }
    }
}

struct Metered;

#[global_allocator]
static ALLOCATOR: Metered = Metered;

// SAFETY: System does the work; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size as isize - layout.size() as isize);
        System.realloc(block, layout, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        System.dealloc(block, layout);
        charge(-(layout.size() as isize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    const LIMITS: Limits = Limits { memory: 1 << 20, time: Duration::from_secs(60), stack: 16 << 20 };

    #[test]
    fn a_job_within_its_limits_returns_its_result() {
        assert_eq!(run(LIMITS, || vec![7u8; 1000].len()), Ok(1000));
    }

    #[test]
    fn memory_that_is_given_back_does_not_count() {
        assert_eq!(run(LIMITS, || (0..1000).map(|_| vec![7u8; 1 << 19].len()).max()), Ok(Some(1 << 19)));
    }

    #[test]
    fn a_job_that_needs_too_much_memory_is_stopped() {
        assert_eq!(run(LIMITS, || vec![7u8; 2 << 20].len()), Err(Stopped::Memory(1 << 20)));
        let growing = || {
            let mut all = vec![];
            while !all.ends_with(&[u64::MAX]) {
                all.push(all.len() as u64);
            }
        };
        assert_eq!(run(LIMITS, growing), Err(Stopped::Memory(1 << 20)));
    }

    #[test]
    fn a_job_that_takes_too_long_is_stopped() {
        let forever = || loop {
            thread::sleep(Duration::from_millis(1));
            drop(black_box(Box::new(7))); // here it is put to sleep
        };
        let time = Duration::from_millis(100);
        assert_eq!(run(Limits { time, ..LIMITS }, forever), Err::<(), _>(Stopped::Time(time)));
    }

    #[test]
    fn a_panic_is_a_result_too() {
        assert_eq!(run(LIMITS, || [1, 2][black_box(2)]), Err(Stopped::Panic));
    }
}
