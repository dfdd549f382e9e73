//! `roentgen data preview`

use crate::arguments::AugmentKind;
use crate::failure::{Failure, Outcome};
use crate::{resolve, start};
use clap::Args;
use png::{BitDepth, ColorType, Encoder};
use roentgen_data::transform::{IMAGENET_DEVIATION, IMAGENET_MEAN};
use roentgen_data::{Augment, Transform, epoch_order, load_image};
use roentgen_run::Config;
use roentgen_run::config::OnBadImage;
use roentgen_run::directory::write_atomically;
use roentgen_run::draw::{Purpose, stream};
use std::io::{self, Write};
use std::path::PathBuf;

/// Pixels between two images.
const GAP: usize = 4;
/// Grey of the ground: neither a dark corner nor a white border is lost on it.
const GROUND: u8 = 96;
/// More than anyone looks at, and few enough that no size overflows.
const LARGEST: usize = 4096;

/// `roentgen data preview`
#[derive(Debug, Args)]
#[command(
    after_help = "The first image of each row is what evaluation sees, the others are what training sees in its first epochs. \
    The parameters of an augmentation are those of --config, where one is given."
)]
pub struct Preview {
    /// Data set, as for `roentgen train`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Augmentation to show [default: seed, or that of --config]
    #[arg(long, value_name = "KIND")]
    augment: Option<AugmentKind>,
    /// Take augmentation, its parameters, image size and seed from a config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Picture to write
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
    /// Images to show, drawn from all splits
    #[arg(long, value_name = "N", default_value_t = 6)]
    images: usize,
    /// Augmented samples of each
    #[arg(long, value_name = "N", default_value_t = 6)]
    samples: usize,
    /// Side of the network's input in pixels [default: 224]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Decides which images are shown and what is drawn [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs the command.
pub fn run(arguments: &Preview) -> Outcome {
    let mut config = arguments.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    let settings = &mut config.data;
    if let Some(kind) = arguments.augment {
        settings.augment = resolve::augmentation(kind);
    }
    let size = arguments.image_size.unwrap_or(settings.image_size);
    for (option, value) in [("--image-size", size), ("--images", arguments.images), ("--samples", arguments.samples)] {
        if !(1..=LARGEST).contains(&value) {
            return Err(Failure::call(format!("{option} is {value}; expected from 1 to {LARGEST}")));
        }
    }
    let manifest = start::manifest(&arguments.data, None, OnBadImage::Fail, None)?;
    let seed = arguments.seed.unwrap_or(config.training.seed);
    let all: Vec<usize> = (0..manifest.rows.len()).collect();
    let mut rows = epoch_order(&all, seed, 0, true);
    rows.truncate(arguments.images);
    let mut sheet = Sheet::new(size, 1 + arguments.samples, rows.len());
    let mut tensor = vec![0.0; 3 * size * size];
    for (line, &row) in rows.iter().enumerate() {
        let path = manifest.path_of(row);
        for column in 0..=arguments.samples {
            let augment = if column == 0 { Augment::None } else { roentgen_train::augment(settings) };
            let transform = Transform { image_size: size, augment };
            let random = || stream(seed, Purpose::Augment, column as u64, row as u64);
            load_image(&path, &transform, None, random, &mut tensor)?;
            sheet.put(column, line, &tensor);
        }
    }
    write_atomically(&arguments.out, |out| sheet.write(out))?;
    let mut out = io::stdout().lock();
    for (line, &row) in rows.iter().enumerate() {
        let row = &manifest.rows[row];
        writeln!(out, "{:3}  {:10}  {}", line + 1, manifest.classes[row.label], row.path.display())?;
    }
    eprintln!("wrote {}", arguments.out.display());
    Ok(())
}

/// Squares side by side, in colour.
struct Sheet {
    size: usize,
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Sheet {
    fn new(size: usize, columns: usize, lines: usize) -> Sheet {
        let (width, height) = (GAP + columns * (size + GAP), GAP + lines * (size + GAP));
        Sheet { size, width, height, pixels: vec![GROUND; 3 * width * height] }
    }

    /// Puts a normalised tensor `[3, S, S]` into its place.
    fn put(&mut self, column: usize, line: usize, tensor: &[f32]) {
        let (size, plane) = (self.size, self.size * self.size);
        let (left, top) = (GAP + column * (size + GAP), GAP + line * (size + GAP));
        for (index, &value) in tensor.iter().enumerate() {
            let (channel, y, x) = (index / plane, index % plane / size, index % size);
            let level = (value * IMAGENET_DEVIATION[channel] + IMAGENET_MEAN[channel]) * 255.0;
            self.pixels[3 * ((top + y) * self.width + left + x) + channel] = level.round() as u8;
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        // Two sides of at most a few million pixels.
        let mut encoder = Encoder::new(out, self.width as u32, self.height as u32);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer.write_image_data(&self.pixels).map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)
    }
}
