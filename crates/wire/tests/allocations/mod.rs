//! An allocator that counts, for tests of what others can make us keep.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Remembers what the thread holds, the most it held, and its largest single reservation.
pub struct Watching;

thread_local! {
    /// Largest single reservation, in bytes.
    pub static LARGEST: Cell<usize> = const { Cell::new(0) };
    /// Bytes held.
    pub static HELD: Cell<isize> = const { Cell::new(0) };
    /// Most bytes held.
    pub static MOST: Cell<isize> = const { Cell::new(0) };
}

fn note(size: usize, change: isize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: passes every call on to the system allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(0, -(layout.size() as isize));
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // For a moment both may be there.
        note(size, size as isize);
        note(0, -(layout.size() as isize));
        unsafe { System.realloc(ptr, layout, size) }
    }
}
