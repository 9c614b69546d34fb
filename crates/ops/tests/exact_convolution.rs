//! The switch between Winograd's kernels and plain sums, which holds for the whole process: the one
//! test here has a process of its own.

use candle_vision_test_support::reference;

use candle_core::{Result, Tensor, Var};
use candle_vision_ops::{Conv2dConfig, conv2d, set_exact_convolution};
use reference::signed;

/// The convolution, and the gradients of its input and kernel.
fn convolution(exact: bool) -> Result<[Vec<f32>; 3]> {
    set_exact_convolution(exact);
    let x = Var::from_tensor(&signed("x", &[4, 20, 24, 32])?)?;
    let kernel = Var::from_tensor(&signed("kernel", &[48, 32, 3, 3])?)?;
    let y = conv2d(&x, &kernel, None, &Conv2dConfig::default().padding(1))?;
    let grads = (&y * signed("grad", &[4, 20, 24, 48])?)?.sum_all()?.backward()?;
    let read = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
    let of = |var: &Var| grads.get(var).expect("a variable has a gradient");
    Ok([read(&y)?, read(of(&x))?, read(of(&kernel))?])
}

#[test]
fn winograd_is_taken_unless_sums_are_to_be_exact_and_agrees_with_them() -> Result<()> {
    let (fast, exact) = (convolution(false)?, convolution(true)?);
    assert_eq!(exact, convolution(true)?, "plain sums are always the same");
    for (name, (fast, exact)) in ["y", "dx", "dkernel"].iter().zip(fast.iter().zip(&exact)) {
        assert_ne!(fast, exact, "{name} took the same way twice");
        let largest = exact.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let errors = fast.iter().zip(exact).map(|(fast, exact)| (fast - exact).abs());
        let error = errors.fold(0.0, f32::max) / largest;
        assert!(error < 1e-5, "{name} is off by {error:.1e} of the largest value");
    }
    Ok(())
}
