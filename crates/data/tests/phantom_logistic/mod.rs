//! A logistic regression that is fitted until it no longer moves: the judge of what linear features betray.

/// A table of features, one row an image, and the class of each row.
pub struct Samples {
    /// Rows of equal length.
    pub features: Vec<Vec<f64>>,
    /// 1 for infected, else 0; as many as rows.
    pub labels: Vec<f64>,
}

/// Penalties tried: the weight of half the squared norm of the coefficients against the mean loss.
const PENALTIES: [f64; 4] = [0.003, 0.03, 0.3, 3.0];
/// Fitted when no component of the gradient is larger.
const TOLERANCE: f64 = 1e-4;
const MOST_STEPS: usize = 5_000;

/// Accuracy on `test` of the regression fitted to `train` with the penalty that gives the best accuracy on
/// `validation`.
pub fn best_test_accuracy(train: &Samples, validation: &Samples, test: &Samples) -> f64 {
    let scale = Standardiser::of(train);
    let [train, validation, test] = [train, validation, test].map(|samples| scale.apply(samples));
    let smoothness = 0.25 * largest_eigenvalue(&train.features);
    let mut best = (f64::NEG_INFINITY, 0.0);
    for penalty in PENALTIES {
        let coefficients = fit(&train, penalty, smoothness + penalty);
        let on_validation = accuracy(&coefficients, &validation);
        if on_validation > best.0 {
            best = (on_validation, accuracy(&coefficients, &test));
        }
    }
    best.1
}

/// Mean 0 and deviation 1 over the training rows, and a constant feature for the intercept.
struct Standardiser {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Standardiser {
    fn of(samples: &Samples) -> Self {
        let count = samples.features.len() as f64;
        let width = samples.features[0].len();
        let moment = |power: i32, around: &[f64]| -> Vec<f64> {
            (0..width)
                .map(|k| samples.features.iter().map(|row| (row[k] - around[k]).powi(power)).sum::<f64>() / count)
                .collect()
        };
        let mean = moment(1, &vec![0.0; width]);
        let deviation = moment(2, &mean).into_iter().map(|variance| variance.sqrt().max(1e-9)).collect();
        Self { mean, deviation }
    }

    fn apply(&self, samples: &Samples) -> Samples {
        let scaled = |row: &Vec<f64>| {
            let standard =
                row.iter().zip(&self.mean).zip(&self.deviation).map(|((x, mean), deviation)| (x - mean) / deviation);
            standard.chain([1.0]).collect()
        };
        Samples { features: samples.features.iter().map(scaled).collect(), labels: samples.labels.clone() }
    }
}

/// Nesterov's accelerated descent on mean cross-entropy plus penalty, with a step of 1 / `smoothness`; the momentum
/// starts again where it leads uphill (O'Donoghue and Candès 2015).
fn fit(train: &Samples, penalty: f64, smoothness: f64) -> Vec<f64> {
    let width = train.features[0].len();
    let count = train.features.len() as f64;
    let (mut current, mut ahead, mut age) = (vec![0.0; width], vec![0.0; width], 0.0);
    for _ in 0..MOST_STEPS {
        let mut gradient: Vec<f64> = ahead.iter().map(|value| penalty * value).collect();
        for (row, label) in train.features.iter().zip(&train.labels) {
            let error = (sigmoid(dot(row, &ahead)) - label) / count;
            gradient.iter_mut().zip(row).for_each(|(sum, x)| *sum += error * x);
        }
        if gradient.iter().all(|component| component.abs() < TOLERANCE) {
            return ahead;
        }
        let next: Vec<f64> = ahead.iter().zip(&gradient).map(|(value, slope)| value - slope / smoothness).collect();
        let uphill: f64 = gradient.iter().zip(&next).zip(&current).map(|((slope, to), from)| slope * (to - from)).sum();
        age = if uphill > 0.0 { 0.0 } else { age + 1.0 };
        let momentum = age / (age + 3.0);
        ahead = next.iter().zip(&current).map(|(to, from)| to + momentum * (to - from)).collect();
        current = next;
    }
    panic!("the logistic regression with penalty {penalty} did not settle in {MOST_STEPS} steps");
}

/// Largest eigenvalue of the features' second moments, from above: 30 power iterations and a tenth more.
fn largest_eigenvalue(features: &[Vec<f64>]) -> f64 {
    let mut direction = vec![1.0; features[0].len()];
    let mut value = 0.0;
    for _ in 0..30 {
        let length = dot(&direction, &direction).sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
        let mut image = vec![0.0; direction.len()];
        for row in features {
            let along = dot(row, &direction) / features.len() as f64;
            image.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
        }
        value = dot(&image, &direction);
        direction = image;
    }
    1.1 * value
}

fn accuracy(coefficients: &[f64], samples: &Samples) -> f64 {
    let right = |(row, label): (&Vec<f64>, &f64)| (dot(row, coefficients) > 0.0) == (*label > 0.5);
    samples.features.iter().zip(&samples.labels).filter(|&pair| right(pair)).count() as f64
        / samples.labels.len() as f64
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight partial sums let the compiler use vectors.
    let mut sums = [0.0; 8];
    let (a_blocks, b_blocks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + tail
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
