//! After the first call with given shapes no kernel of the convolution, Winograd and linear families allocates. A file,
//! and so a process, of its own: the allocator counts for all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use roentgen_kernels::{
    Compute, ConvFinish, ConvShape, InputLayout, LinearShape, WinogradSums, WinogradWeights, padded,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn only_the_first_call_allocates() {
    // So many images that threads take over each other's: not the same ones in each step.
    const BATCH: usize = 40;
    let compute = Compute::new(2).unwrap();
    let conv = |in_channels: usize, kernel: usize, stride: usize, input: InputLayout| ConvShape {
        in_channels,
        out_channels: 48,
        kernel,
        stride,
        padding: kernel / 2,
        in_height: 17,
        in_width: 15,
        input,
    };
    let shapes = [
        conv(32, 3, 1, InputLayout::Blocked),
        conv(32, 3, 2, InputLayout::Blocked),
        conv(3, 7, 2, InputLayout::Planar),
        conv(48, 1, 1, InputLayout::Blocked),
    ];
    let linear = LinearShape { in_features: 100, out_features: 20 };
    let longest = |len: fn(&ConvShape) -> usize| shapes.iter().map(len).max().unwrap_or(0);
    let mut x = vec![0.5; BATCH * longest(ConvShape::data_gradient_len)];
    let mut y = vec![0.5; BATCH * longest(ConvShape::output_len)];
    let mut weights = vec![0.5; longest(ConvShape::weights_len)];
    let longest_packed = [ConvShape::packed_len, ConvShape::packed_transposed_len, ConvShape::winograd_packed_len];
    let mut packed = vec![0.5; longest_packed.into_iter().map(longest).max().unwrap_or(0)];
    let mut bias = vec![0.5; padded(48)];

    let mut step = || {
        for shape in &shapes {
            let (x, y) = (&mut x[..], &mut y[..BATCH * shape.output_len()]);
            let weights = &mut weights[..shape.weights_len()];
            let (input, forward) = (BATCH * shape.input_len(), shape.packed_len());
            compute.pack_weights::<f32>(shape, weights, &mut packed[..forward]);
            let finish = ConvFinish { bias: Some(&bias), relu: true, ..ConvFinish::default() };
            compute.conv_forward(shape, BATCH, &x[..input], &packed[..forward], &finish, y);
            compute.conv_weight_gradient(shape, BATCH, &x[..input], y, &mut packed[..forward], false);
            compute.unpack_weight_gradient(shape, &packed[..forward], weights);
            let (gradient, transposed) = (BATCH * shape.data_gradient_len(), shape.packed_transposed_len());
            compute.pack_weights_transposed::<f32>(shape, weights, &mut packed[..transposed]);
            compute.conv_data_gradient(shape, BATCH, y, &packed[..transposed], None, &mut x[..gradient], false);
            if shape.suits_winograd() {
                let packed = &mut packed[..shape.winograd_packed_len()];
                compute.winograd_pack(shape, weights, packed);
                let finish = ConvFinish { bias: Some(&bias), relu: true, ..ConvFinish::default() };
                compute.winograd_forward(shape, BATCH, &x[..input], WinogradWeights::Packed(packed), &finish, y);
                compute.winograd_forward(shape, BATCH, &x[..input], WinogradWeights::Plain(weights), &finish, y);
                compute.winograd_pack_transposed(shape, weights, packed);
                let packed_weights = WinogradWeights::Packed(packed);
                compute.winograd_data_gradient(shape, BATCH, y, packed_weights, None, &mut x[..gradient], false);
                compute.winograd_weight_gradient(shape, BATCH, &x[..input], y, None, weights);
                let sums = WinogradSums { sums: packed, accumulate: true };
                compute.winograd_weight_gradient(shape, BATCH, &x[..input], y, Some(sums), weights);
            }
            let positions = shape.out_height() * shape.out_width();
            compute.bias_gradient(shape.out_channels, BATCH, positions, y, &mut bias, false);
        }
        let (x, y) = (&mut x[..BATCH * linear.input_len()], &mut y[..BATCH * linear.output_len()]);
        let (weights, packed) = (&mut weights[..linear.weights_len()], &mut packed[..linear.packed_len()]);
        compute.linear_pack(&linear, weights, packed);
        compute.linear_forward(&linear, BATCH, x, packed, None, false, y);
        compute.linear_weight_gradient(&linear, BATCH, x, y, packed, false);
        compute.linear_unpack_gradient(&linear, packed, weights);
        compute.linear_pack_transposed(&linear, weights, packed);
        compute.linear_data_gradient(&linear, BATCH, y, packed, x, false);
    };
    step();
    let after_first = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(after_first > 0, "the first step allocates scratch memory, or nothing was counted");
    for number in 2..=8 {
        step();
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), after_first, "step {number} allocated");
    }
}
