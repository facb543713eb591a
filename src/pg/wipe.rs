//! Memory that is given back is wiped.
//!
//! [`crate::domain::secret::Secret`] wipes what it holds, but a request on its way passes through
//! buffers of other libraries (HTTP, TLS, JSON), which do not. They all take their memory here.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, wiping what it takes back.
pub struct Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

// SAFETY: everything is the system allocator's own work; a block is written to only while it is
// still the caller's, within its size.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size and nobody else uses it any more.
        unsafe {
            std::ptr::write_bytes(block, 0, layout.size());
            // Whatever the compiler knows of `free`, it must take the zeros for used.
            std::hint::black_box(block);
            System.dealloc(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The system's own would leave the old block as it is where it moves it.
        // SAFETY: the new layout has the old one's alignment and a size that the caller promises
        // to be valid; both blocks are as long as what is copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
