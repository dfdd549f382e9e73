//! Aligned memory for tensors.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A cache line, and an AVX-512 register: no vector load from a block straddles two lines.
const CACHE_LINE: usize = 64;

/// What Linux calls a huge page on x86-64 and most of aarch64. Buffers of at least one of them ask for such pages: a
/// convolution touches many far-apart rows, which costs a TLB entry each.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// A zeroed run of f32, aligned to 64 bytes, of a length fixed at its creation.
pub struct AlignedBuffer {
    start: NonNull<f32>,
    len: usize,
    layout: Layout,
}

impl AlignedBuffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// Where `len` floats exceed the address space; running out of memory aborts, as with `Vec`.
    pub fn new(len: usize) -> AlignedBuffer {
        let bytes = len.checked_mul(size_of::<f32>()).expect("a buffer beyond the address space");
        let alignment = if bytes >= HUGE_PAGE { HUGE_PAGE } else { CACHE_LINE };
        // A zero-sized layout must not be allocated, hence one line at least.
        let size = bytes.max(1).next_multiple_of(CACHE_LINE);
        let layout = Layout::from_size_align(size, alignment).expect("a buffer beyond the address space");
        // SAFETY: the layout has a size above zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }.cast::<f32>()) else { handle_alloc_error(layout) };
        // The advice comes before the first touch, or the pages exist already.
        advise_huge_pages(start, layout);
        // SAFETY: `layout.size()` bytes were just allocated; all-zero bytes are valid floats.
        unsafe { start.cast::<u8>().write_bytes(0, layout.size()) };
        AlignedBuffer { start, len, layout }
    }
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(start: NonNull<f32>, layout: Layout) {
    unsafe extern "C" {
        fn madvise(address: *mut std::ffi::c_void, length: usize, advice: std::ffi::c_int) -> std::ffi::c_int;
    }
    /// `MADV_HUGEPAGE` of Linux's `asm-generic/mman-common.h`.
    const MADV_HUGEPAGE: std::ffi::c_int = 14;
    if layout.align() >= HUGE_PAGE {
        // SAFETY: the range was just allocated and starts on a page; the advice changes no contents. Its failure (a
        // kernel without huge pages) is no loss but speed, so the result is not looked at.
        unsafe { madvise(start.as_ptr().cast(), layout.size() / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: NonNull<f32>, _layout: Layout) {}

// SAFETY: the buffer owns its memory alone, as a `Vec<f32>` does.
unsafe impl Send for AlignedBuffer {}
// SAFETY: a shared buffer can only be read.
unsafe impl Sync for AlignedBuffer {}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised floats live at `start` as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AlignedBuffer({} floats)", self.len)
    }
}

impl Default for AlignedBuffer {
    /// An empty buffer.
    fn default() -> Self {
        AlignedBuffer::new(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_writable() {
        for len in [0, 1, 15, 16, 17, 1000, 2 * HUGE_PAGE / 4 + 3] {
            let mut buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&value| value.to_bits() == 0));
            assert_eq!(buffer.as_ptr().addr() % CACHE_LINE, 0);
            buffer.fill(1.5);
            assert!(buffer.iter().all(|&value| value == 1.5));
        }
    }
}
