//! What the tests train, and what they watch it with.

use roentgen_cpu::CpuEngine;
use roentgen_data::Manifest;
use roentgen_run::history::{EpochRecord, read_table};
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{Event, Observer, Outcome, Setup, TrainError, fit};
use std::path::Path;
use std::sync::Arc;

/// Stops after a number of steps.
pub struct StopAfter(pub u64);

impl Observer for StopAfter {
    fn event(&mut self, _run: usize, event: Event<'_>) {
        if let Event::Step { .. } = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn stop_requested(&self) -> bool {
        self.0 == 0
    }
}

pub fn to_the_end() -> StopAfter {
    StopAfter(u64::MAX)
}

/// Fifty-two small images of bright discs and dark ones.
pub fn data(folder: &Path) {
    for (split, count) in [("train", 12), ("validation", 10), ("test", 4)] {
        for (class, sign) in [("infected", 1i32), ("normal", -1)] {
            let place = folder.join(split).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for index in 0..count {
                let pixels: Vec<u8> = (0..40 * 40)
                    .map(|i| {
                        let (x, y) = (i % 40 - 18 - index % 5, i / 40 - 20 + index % 3);
                        let inside = x * x + y * y < 90;
                        (128 + if inside { 60 * sign } else { 0 } + (i * 31 + index * 17) % 23) as u8
                    })
                    .collect();
                let file = std::fs::File::create(place.join(format!("{index:02}.png"))).unwrap();
                let mut encoder = png::Encoder::new(file, 40, 40);
                encoder.set_color(png::ColorType::Grayscale);
                encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
            }
        }
    }
}

pub fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.data.root = data.to_owned();
    config.data.image_size = 32;
    config.network.weights = "none".into();
    config.network.hidden = 24;
    config.freeze.unfreeze = vec!["layer4".into(), "head".into()];
    config.training.epochs = 2;
    config.training.batch_size = 8;
    config.training.learning_rate = 0.01;
    config
}

pub fn setup(config: &Config, out: &Path) -> Setup {
    let run = RunDirectory::new(out);
    run.create(config).unwrap();
    let manifest = Arc::new(Manifest::open(&config.data.root).unwrap());
    Setup::new(config.clone(), manifest, &[], None, run).unwrap()
}

pub fn train(config: &Config, out: &Path, threads: usize, mut observer: StopAfter) -> Result<Outcome, TrainError> {
    fit(&mut setup(config, out), &CpuEngine::new(threads).unwrap(), &mut observer)
}

/// Everything that must not depend on how a run went: the model's bytes, the losses, the history without its times.
pub fn results(out: &Path) -> (Vec<u8>, String, Vec<String>) {
    let run = RunDirectory::new(out);
    let history: Vec<EpochRecord> = read_table(&run.history_file()).unwrap();
    let timeless = |r: &EpochRecord| {
        format!("{} {} {:?} {} {:?}", r.epoch, r.train_loss, r.valid_loss, r.train_accuracy, r.valid_accuracy)
    };
    (
        std::fs::read(run.model_file()).unwrap(),
        std::fs::read_to_string(run.steps_file()).unwrap(),
        history.iter().map(timeless).collect(),
    )
}
