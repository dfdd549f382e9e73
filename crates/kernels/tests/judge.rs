//! The judge on trial: its values against PyTorch's, its gradients against central finite differences of its values.

// The path is said because this file is called judge as well.
#[path = "judge/mod.rs"]
mod judge;

use judge::*;

/// `((7 i + offset) mod modulus) - floor(modulus / 2)`: the small whole numbers that PyTorch was given as well.
fn pattern(length: usize, modulus: usize, offset: usize) -> Vec<f64> {
    (0..length).map(|i| ((7 * i + offset) % modulus) as f64 - (modulus / 2) as f64).collect()
}

fn weighted_sum(values: &[f64], weights: &[f64]) -> f64 {
    assert_eq!(values.len(), weights.len());
    values.iter().zip(weights).map(|(v, w)| v * w).sum()
}

/// Compares `gradient` with the central differences of `loss` at `point`.
#[track_caller]
fn check_gradient(what: &str, point: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    let mut moved = point.to_vec();
    let differences: Vec<f64> = (0..point.len())
        .map(|i| {
            moved[i] = point[i] + STEP;
            let above = loss(&moved);
            moved[i] = point[i] - STEP;
            let below = loss(&moved);
            moved[i] = point[i];
            (above - below) / (2.0 * STEP)
        })
        .collect();
    assert!(differences.iter().any(|d| d.abs() > 1e-3), "{what}: a gradient of zeros proves nothing");
    assert_close(what, gradient, &differences, 1e-7);
}

/// Distinct values at least `2 / length` apart, so that a finite step changes neither a maximum nor a sign.
fn distinct(seed: u64, length: usize) -> Vec<f64> {
    let order = noise(seed, length);
    let rank = |v: f64| order.iter().filter(|&&other| other < v).count();
    order.iter().map(|&v| (rank(v) as f64 + 0.5) / length as f64 * 2.0 - 1.0 + 1e-3).collect()
}

#[test]
fn convolution_gradients() {
    let windows = [
        (Window::square(3, 1, 1), "3x3"),
        (Window::square(3, 2, 1), "3x3 stride 2"),
        (Window::square(1, 2, 0), "1x1 stride 2"),
        (Window::square(5, 3, 2), "5x5 stride 3"),
        (Window { kernel: [2, 3], stride: [3, 1], padding: [0, 2] }, "2x3"),
    ];
    for (window, name) in windows {
        for batch in [1, 2] {
            let (images, out_channels) = (Images::new(batch, 3, 7, 5), 2);
            let out = images.with(out_channels, window.out(images));
            let (x, bias, dy) = (noise(1, images.len()), noise(2, out_channels), noise(3, out.len()));
            let weight = noise(4, out_channels * images.channels * window.kernel[0] * window.kernel[1]);
            let gradients = conv2d_backward(images, out_channels, window, &x, &weight, &dy);
            let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
                weighted_sum(&conv2d(images, out_channels, window, x, weight, Some(bias)), &dy)
            };
            check_gradient(&format!("{name}: data"), &x, &gradients.data, |x| loss(x, &weight, &bias));
            check_gradient(&format!("{name}: weight"), &weight, &gradients.weight, |weight| loss(&x, weight, &bias));
            check_gradient(&format!("{name}: bias"), &bias, &gradients.bias, |bias| loss(&x, &weight, bias));
        }
    }
}

#[test]
fn linear_gradients() {
    for batch in [1, 3] {
        let (x, weight, bias, dy) = (noise(1, batch * 7), noise(2, 5 * 7), noise(3, 5), noise(4, batch * 5));
        let gradients = linear_backward(batch, &x, &weight, &dy);
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| weighted_sum(&linear(batch, x, weight, bias), &dy);
        check_gradient("data", &x, &gradients.data, |x| loss(x, &weight, &bias));
        check_gradient("weight", &weight, &gradients.weight, |weight| loss(&x, weight, &bias));
        check_gradient("bias", &bias, &gradients.bias, |bias| loss(&x, &weight, bias));
    }
}

#[test]
fn batch_norm_training_gradients() {
    for batch in [1, 3] {
        let images = Images::new(batch, 2, 3, 5);
        let (x, gamma, beta, dy) = (noise(1, images.len()), noise(2, 2), noise(3, 2), noise(4, images.len()));
        let gradients = batch_norm_training_backward(images, &x, &gamma, 1e-5, &dy);
        let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| {
            weighted_sum(&batch_norm_training(images, x, gamma, beta, 1e-5, 0.1, &mut [0.0; 2], &mut [1.0; 2]), &dy)
        };
        check_gradient("data", &x, &gradients.data, |x| loss(x, &gamma, &beta));
        check_gradient("gamma", &gamma, &gradients.weight, |gamma| loss(&x, gamma, &beta));
        check_gradient("beta", &beta, &gradients.bias, |beta| loss(&x, &gamma, beta));
    }
}

#[test]
fn batch_norm_evaluation_gradients() {
    for batch in [1, 3] {
        let images = Images::new(batch, 2, 3, 5);
        let (x, gamma, beta, dy) = (noise(1, images.len()), noise(2, 2), noise(3, 2), noise(4, images.len()));
        let (mean, variance) = ([0.3, -2.0], [0.5, 3.0]);
        let gradients = batch_norm_evaluation_backward(images, &x, &gamma, &mean, &variance, 1e-5, &dy);
        let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| {
            weighted_sum(&batch_norm_evaluation(images, x, gamma, beta, &mean, &variance, 1e-5), &dy)
        };
        check_gradient("data", &x, &gradients.data, |x| loss(x, &gamma, &beta));
        check_gradient("gamma", &gamma, &gradients.weight, |gamma| loss(&x, gamma, &beta));
        check_gradient("beta", &beta, &gradients.bias, |beta| loss(&x, &gamma, beta));
    }
}

#[test]
fn elementwise_gradients() {
    let (x, other, dy) = (distinct(1, 35), noise(2, 35), noise(3, 35));
    check_gradient("relu", &x, &relu_backward(&x, &dy), |x| weighted_sum(&relu(x), &dy));
    assert_eq!(relu_backward(&x, &dy), relu_backward(&relu(&x), &dy), "output and input tell the same");
    check_gradient("add, left", &x, &dy, |x| weighted_sum(&add(x, &other), &dy));
    check_gradient("add, right", &other, &dy, |other| weighted_sum(&add(&x, other), &dy));
    check_gradient("flatten", &x, &dy, |x| weighted_sum(&flatten(x), &dy));
}

#[test]
fn max_pool_gradients() {
    let windows = [
        Window::square(2, 2, 0),
        Window::square(3, 1, 1),
        Window::square(3, 2, 1),
        Window { kernel: [3, 2], stride: [3, 1], padding: [1, 0] },
    ];
    for window in windows {
        for batch in [1, 2] {
            let images = Images::new(batch, 2, 7, 5);
            let (x, dy) = (distinct(1, images.len()), noise(2, images.with(images.channels, window.out(images)).len()));
            let gradient = max_pool_backward(images, window, &x, &dy);
            check_gradient(&format!("{window:?}"), &x, &gradient, |x| weighted_sum(&max_pool(images, window, x), &dy));
        }
    }
}

#[test]
fn adaptive_average_pool_gradients() {
    for out_size in [[1, 1], [2, 3], [7, 7], [5, 8]] {
        for batch in [1, 2] {
            let images = Images::new(batch, 2, 7, 5);
            let (x, dy) = (noise(1, images.len()), noise(2, images.with(images.channels, out_size).len()));
            let gradient = adaptive_average_pool_backward(images, out_size, &dy);
            let loss = |x: &[f64]| weighted_sum(&adaptive_average_pool(images, out_size, x), &dy);
            check_gradient(&format!("{out_size:?}"), &x, &gradient, loss);
        }
    }
}

#[test]
fn cross_entropy_gradients() {
    for (labels, class_weights) in
        [(&[2, 0, 1, 2, 2][..], None), (&[2, 0, 1, 2, 2][..], Some(&[0.5, 2.0, 0.0][..])), (&[1][..], None)]
    {
        let logits: Vec<f64> = noise(1, labels.len() * 3).iter().map(|v| v * 4.0).collect();
        let (_, gradient) = cross_entropy(&logits, labels, class_weights);
        check_gradient("logits", &logits, &gradient, |logits| cross_entropy(logits, labels, class_weights).0);
    }
}

#[test]
fn cross_entropy_survives_confident_logits() {
    let (loss, gradient) = cross_entropy(&[1000.0, -1000.0, -1000.0, 1000.0], &[0, 0], None);
    assert_eq!(loss, 1000.0);
    assert_eq!(gradient, [0.0, 0.0, -0.5, 0.5]);
}

/// `v(shape, modulus, offset)` in the comments is [`pattern`] as an f64 tensor; the numbers are PyTorch 2.15.0's.
mod values_of_pytorch {
    use super::*;

    /// `F.conv2d(v((2, 2, 5, 4), 11), v((2, 2, 3, 2), 5), v((2,), 3), stride=(2, 1), padding=(1, 0))`
    #[test]
    fn convolution() {
        let images = Images::new(2, 2, 5, 4);
        let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0] };
        let (x, weight, bias) = (pattern(80, 11, 0), pattern(24, 5, 0), pattern(2, 3, 0));
        assert_eq!(window.out(images), [3, 3]);
        let expected = [
            -6, -20, -1, 0, 8, -6, -29, 11, -4, -30, 25, 3, -7, -11, 29, -19, 0, 19, -5, -8, 0, 1, -24, 28, 9, -17, 12,
            25, -19, 3, 9, -17, -21, -7, 1, 9,
        ];
        assert_eq!(conv2d(images, 2, window, &x, &weight, Some(&bias)), expected.map(f64::from));
    }

    /// `F.linear(v((2, 3), 11), v((2, 3), 5), v((2,), 3))`
    #[test]
    fn linear_layer() {
        let y = linear(2, &pattern(6, 11, 0), &pattern(6, 5, 0), &pattern(2, 3, 0));
        assert_eq!(y, [5.0, 11.0, -17.0, 2.0]);
    }

    /// `F.batch_norm(v((2, 2, 1, 3), 11), running_mean, running_var, gamma, beta, training, momentum=0.1, eps=0.5)`, in
    /// training and then in evaluation mode.
    #[test]
    fn batch_norm() {
        let (images, x) = (Images::new(2, 2, 1, 3), pattern(12, 11, 0));
        let (gamma, beta) = ([2.0, -1.0], [0.5, 1.0]);
        let (mut running_mean, mut running_variance) = ([1.0, -1.0], [2.0, 0.5]);
        let trained =
            batch_norm_training(images, &x, &gamma, &beta, 0.5, 0.1, &mut running_mean, &mut running_variance);
        let expected = [
            -2.0548806515,
            2.237318843,
            -0.2153665824,
            -0.4334554477,
            0.7133089105,
            1.8600732686,
            3.4636615558,
            1.0109761303,
            -1.4417092952,
            0.1399267314,
            1.2866910895,
            2.4334554477,
        ];
        assert_close("training", &trained, &expected, 1e-10);
        assert_close("running mean", &running_mean, &[0.8166666667, -0.9], 1e-10);
        assert_close("running variance", &running_variance, &[3.0166666667, 1.85], 1e-10);
        let evaluated = batch_norm_evaluation(images, &x, &gamma, &beta, &running_mean, &running_variance, 0.5);
        let expected = [
            -5.7035254717,
            1.7620352679,
            -2.5039994405,
            -2.848735631,
            -0.2394233388,
            2.3698889534,
            3.895052622,
            -0.3709820863,
            -4.6370167946,
            -1.5440794849,
            1.0652328073,
            3.6745450995,
        ];
        assert_close("evaluation", &evaluated, &expected, 1e-10);
    }

    /// `y = F.max_pool2d(x := v((1, 2, 5, 4), 11), 3, 2, 1)` and the gradient of `(y * v(y.shape, 13)).sum()`: ties
    /// abound.
    #[test]
    fn max_pool_with_ties() {
        let (images, window) = (Images::new(1, 2, 5, 4), Window::square(3, 2, 1));
        let x = pattern(images.len(), 11, 0);
        let expected = [2, 5, 3, 5, 4, 5, 5, 5, 5, 5, 5, 4];
        assert_eq!(max_pool(images, window, &x), expected.map(f64::from));
        let dx = max_pool_backward(images, window, &x, &pattern(12, 13, 0));
        let expected = [
            0, -6, 0, 1, 0, 0, 0, 0, 0, -5, 0, 0, 0, 0, 5, 0, 0, -4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, -1, 0, 0, 6,
        ];
        assert_eq!(dx, expected.map(f64::from));
    }

    /// A NaN wins the window, the last one takes the gradient: `F.max_pool2d([[[[1, nan, nan, 3]]]], (1, 4))`.
    #[test]
    fn max_pool_of_nan() {
        let (images, window) = (Images::new(1, 1, 1, 4), Window { kernel: [1, 4], stride: [1, 1], padding: [0, 0] });
        let x = [1.0, f64::NAN, f64::NAN, 3.0];
        assert!(max_pool(images, window, &x)[0].is_nan());
        assert_eq!(max_pool_backward(images, window, &x, &[1.0]), [0.0, 0.0, 1.0, 0.0]);
    }

    /// `F.relu([nan, -1, 0, 2])` and its gradient.
    #[test]
    fn relu_of_nan() {
        let x = [f64::NAN, -1.0, 0.0, 2.0];
        assert_close("relu", &relu(&x), &[f64::NAN, 0.0, 0.0, 2.0], 0.0);
        assert_eq!(relu_backward(&x, &[1.0; 4]), [1.0, 0.0, 0.0, 1.0]);
    }

    /// `F.adaptive_avg_pool2d(v((1, 1, 5, 3), 11), (3, 4))`
    #[test]
    fn average_pool() {
        let y = adaptive_average_pool(Images::new(1, 1, 5, 3), [3, 4], &pattern(15, 11, 0));
        let expected = [0.0, 0.75, -0.5, -2.5, 4.0, 2.0, -2.0, -4.0, 2.5, 0.5, -0.75, 0.0];
        assert_close("pooled", &y, &expected, 1e-15);
    }

    /// `F.cross_entropy(v((3, 3), 11) / 2, [2, 0, 1], weight=[0.5, 2, 1])`
    #[test]
    fn weighted_cross_entropy() {
        let logits: Vec<f64> = pattern(9, 11, 0).iter().map(|v| v / 2.0).collect();
        let (loss, _) = cross_entropy(&logits, &[2, 0, 1], Some(&[0.5, 2.0, 1.0]));
        assert_close("loss", &[loss], &[1.860144936677725], 1e-14);
    }
}
