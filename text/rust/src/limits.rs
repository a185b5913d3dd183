//! Runs a job from an untrusted source with a limit on its memory and its time.
//!
//! The job gets a thread of its own, whose allocations are counted. A thread that goes beyond a limit is not
//! unwound, which an allocator must not do, but put to sleep for ever at its next allocation; its caller goes on.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
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
}

#[derive(Debug, PartialEq)]
pub enum Stopped {
    Memory,
    Time,
    Panic,
    Start, // no thread could be had
}

/// A value nested as deeply as the memory allows is still printed, compared and dropped by recursion: per level
/// it takes at least 64 bytes of memory and at most 1 KiB of stack. Pages that nothing touches cost nothing.
const STACK_PER_MEMORY: usize = 16;

struct Meter {
    left: AtomicIsize,
    stopped: AtomicBool,
}

pub fn run<T: Send + 'static>(
    limits: Limits,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let meter = Arc::new(Meter {
        left: AtomicIsize::new(limits.memory as isize),
        stopped: AtomicBool::new(false),
    });
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
    let stack = limits.memory.saturating_mul(STACK_PER_MEMORY);
    thread::Builder::new().stack_size(stack).spawn(body).map_err(|_| Stopped::Start)?;

    let deadline = Instant::now() + limits.time;
    loop {
        match receiver.recv_timeout(Duration::from_millis(5)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Stopped::Panic),
            Err(RecvTimeoutError::Timeout) if meter.stopped.load(Relaxed) => return Err(Stopped::Memory),
            Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                meter.stopped.store(true, Relaxed);
                return Err(Stopped::Time);
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
    if bytes > 0 && (left < 0 || meter.stopped.load(Relaxed)) {
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
