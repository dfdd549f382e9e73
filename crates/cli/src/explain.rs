//! `roentgen explain`

mod npy;
mod origin;
mod record;

use crate::arguments::Computation;
use crate::display::displayed;
use crate::download::{sha256, sha256_of};
use crate::failure::{Failure, Outcome};
use crate::predict::{listed, model_file};
use crate::progress::Count;
use crate::{resolve, search, start};
use clap::Args;
use clap::builder::PossibleValuesParser;
use origin::{ENDINGS, MethodRecord, Origin, files_there};
use record::Record;
use roentgen_cpu::CpuEngine;
use roentgen_data::decode::{decode_frame_bytes, read_file};
use roentgen_data::{Augment, Image, Limits, Transform};
use roentgen_infer::explain::{Curves, Explainer, Explanation, LungField, Method};
use roentgen_infer::{Model, Predictor};
use roentgen_report::{HeatPicture, file_name_part, write_removal_curves};
use roentgen_run::directory::write_atomically;
use roentgen_run::predictions::Computation as Computed;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Longest side of an overlay in pixels: an image between these keeps its size.
const OVERLAY_SIDES: std::ops::RangeInclusive<usize> = 448..=1024;
/// How far a mask's aspect ratio may be from its image's: masks are often stored small, and rounded.
const ASPECT_TOLERANCE: f64 = 0.03;

/// `roentgen explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// Run directory or model file
    pub run: PathBuf,
    /// Images or folders; - reads a list from stdin
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Folder for the maps: for each image an overlay (PNG), the raw map (NPY), its check (JSON), its curves (SVG)
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How the map is made
    #[arg(long, value_name = "METHOD", default_value = "grad-cam", value_parser = PossibleValuesParser::new(Method::NAMES))]
    pub method: String,
    /// The class to explain [default: the predicted one of each image]
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// What a class activation map is made of, such as layer4 or layer3.0.conv1 [default: the last map before pooling]
    #[arg(long, value_name = "NAME")]
    pub module: Option<String>,
    /// integrated-gradients: images on the way from grey [default: 64]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// occlusion: side of the grey square in pixels of the network's input [default: an eighth of its side]
    #[arg(long, value_name = "PIXELS")]
    pub patch: Option<usize>,
    /// occlusion: from one square to the next [default: half a square]
    #[arg(long, value_name = "PIXELS")]
    pub stride: Option<usize>,
    /// Where the lungs are: a picture of each image's proportions, light where lung is; for several images a folder
    /// with a PNG of each image's name, in a folder of its folder's name where names repeat [default: a rough estimate]
    #[arg(long, value_name = "FILE|DIR")]
    pub mask: Option<PathBuf>,
    /// Frame of DICOM files that have several, counted from 1
    #[arg(long, value_name = "N")]
    pub frame: Option<NonZeroU32>,
    /// Steps of the deletion and insertion curves; 0 draws none
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub curve_steps: usize,
    /// Print the checks as one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// How the model computes.
    #[command(flatten)]
    pub computation: Computation,
}

/// Runs the command: files into the folder, a line for each image on stdout; images that cannot be decoded on stderr, and
/// exit code 1.
pub fn run(arguments: &Explain) -> Outcome {
    let images = listed(&arguments.images)?;
    if images.is_empty() {
        return Err(Failure::call("no images: give files or folders, or - to read a list from stdin"));
    }
    let masks = masks(arguments.mask.as_deref(), &images)?;
    let mut explaining = Explaining::new(arguments)?;
    let names = names(&images, &explaining.model.description.classes);
    if arguments.out.is_dir() {
        for ((path, name), mask) in images.iter().zip(&names).zip(&masks) {
            explaining.refuse_others(arguments, path, name, mask.as_deref())?;
        }
    }
    let progress = Count::of_images("explaining", images.len());
    let mut out = std::io::stdout().lock();
    if !arguments.json {
        writeln!(out, "{}", Record::HEADER)?;
    }
    let mut failed = 0;
    for ((path, name), mask) in images.iter().zip(&names).zip(&masks) {
        match Opened::open(path, arguments.frame, mask.as_deref()) {
            Ok(opened) => {
                let record = explaining.record(arguments, path, opened, name)?;
                if arguments.json {
                    serde_json::to_writer(&mut out, &record).map_err(std::io::Error::from)?;
                    writeln!(out)?;
                } else {
                    writeln!(out, "{}", record.line())?;
                }
                out.flush()?;
            }
            Err(error) => {
                failed += 1;
                eprintln!("error: {error}");
            }
        }
        progress.one_more();
    }
    drop(progress);
    match failed {
        0 => Ok(()),
        _ => Err(Failure::work(format!("{failed} of {} images could not be explained", images.len()))),
    }
}

/// An image, and where its lungs are. Digests are of the very bytes that were decoded.
struct Opened {
    image: Image,
    /// With where that is known from.
    lungs: Option<(LungField, String)>,
    image_sha256: String,
    mask_sha256: Option<String>,
}

impl Opened {
    /// # Errors
    /// In words, why it cannot be explained.
    fn open(path: &Path, frame: Option<NonZeroU32>, mask: Option<&Path>) -> Result<Opened, String> {
        let limits = Limits::default();
        let read = |path: &Path| read_file(path, &limits).map_err(|error| error.to_string());
        let decoded = |path: &Path, bytes: &[u8], frame| {
            decode_frame_bytes(&path.display().to_string(), bytes, &limits, frame).map_err(|error| error.to_string())
        };
        let bytes = read(path)?;
        let (image, image_sha256) = (decoded(path, &bytes, frame)?, sha256_of(&bytes));
        let Some(mask) = mask else {
            let lungs = LungField::estimate(&image).map(|field| (field, "estimate".to_owned()));
            return Ok(Opened { image, lungs, image_sha256, mask_sha256: None });
        };
        let bytes = read(mask)?;
        let field = LungField::from_mask(&decoded(mask, &bytes, None)?);
        let expected = image.width() as f64 / image.height() as f64;
        if (field.aspect() / expected - 1.0).abs() > ASPECT_TOLERANCE {
            return Err(format!(
                "{}: the mask's width is {:.2} of its height, that of {} {expected:.2}; expected a mask of the whole \
                 image: give the one that belongs to it",
                mask.display(),
                field.aspect(),
                path.display()
            ));
        }
        let lungs = Some((field, format!("mask {}", mask.display())));
        Ok(Opened { image, lungs, image_sha256, mask_sha256: Some(sha256_of(&bytes)) })
    }
}

/// The mask of each image: the one file for the one image, or the PNG of its name in a folder, first in the one there that
/// is called as its own folder.
fn masks(given: Option<&Path>, images: &[PathBuf]) -> Outcome<Vec<Option<PathBuf>>> {
    match given {
        None => Ok(vec![None; images.len()]),
        Some(folder) if folder.is_dir() => {
            let mut owners: HashMap<PathBuf, &PathBuf> = HashMap::new();
            let mut masks = Vec::with_capacity(images.len());
            for image in images {
                let mask = mask_in(folder, image);
                if let Some(other) = owners.insert(mask.clone(), image).filter(|other| *other != image) {
                    return Err(Failure::call(format!(
                        "--mask {}: {} is the mask of {} and of {}; expected one for each image, such as {}",
                        folder.display(),
                        mask.display(),
                        other.display(),
                        image.display(),
                        mask_of_folder(folder, image).display()
                    )));
                }
                masks.push(Some(mask));
            }
            Ok(masks)
        }
        Some(file) if images.len() == 1 => Ok(vec![Some(file.to_owned())]),
        Some(file) => Err(Failure::call(format!(
            "--mask {}: one mask for {} images; expected a folder with a PNG of each image's name",
            file.display(),
            images.len()
        ))),
    }
}

/// `FOLDER/<the image's folder>/<its name>.png` where it is there, else `FOLDER/<its name>.png`.
fn mask_in(folder: &Path, image: &Path) -> PathBuf {
    let own = mask_of_folder(folder, image);
    let name = own.file_name().unwrap_or_default();
    if own.is_file() { own } else { folder.join(name) }
}

fn mask_of_folder(folder: &Path, image: &Path) -> PathBuf {
    let place = image.parent().and_then(Path::file_name).map_or_else(|| folder.to_owned(), |name| folder.join(name));
    place.join(image.file_name().unwrap_or_default()).with_extension("png")
}

/// A name for the files of each image, from its own. Those that would share the files of a map, whichever class it comes to,
/// get numbers: images of one name in several folders, or `a` of the class `b-c` and `a-b` of the class `c`.
fn names(images: &[PathBuf], classes: &[String]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut take = |name: &String| {
        let stems: Vec<String> = classes.iter().map(|class| stem(name, class)).collect();
        let is_free = !stems.iter().any(|stem| taken.contains(stem));
        if is_free {
            taken.extend(stems);
        }
        is_free
    };
    let name = |path: &PathBuf| {
        let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let numbered = (1..).map(|number| if number == 1 { stem.clone() } else { format!("{stem}-{number}") });
        let free = numbered.map(|name| file_name_part(&name)).find(&mut take);
        free.expect("numbers do not end")
    };
    images.iter().map(name).collect()
}

/// What the names of a map's files begin with, but for the method.
fn stem(name: &str, class: &str) -> String {
    format!("{name}-{}", file_name_part(class))
}

/// The method with its settings; a setting of another method is a wrong call.
fn method(arguments: &Explain, image_size: usize) -> Outcome<Method> {
    let mut method = Method::named(&arguments.method, image_size).expect("the argument parser knows the names");
    let (mut steps, mut patch, mut stride) = (arguments.steps, arguments.patch, arguments.stride);
    match &mut method {
        Method::IntegratedGradients { steps: setting } => *setting = steps.take().unwrap_or(*setting),
        Method::Occlusion { patch: square, stride: step } => {
            *square = patch.take().unwrap_or(*square);
            *step = stride.take().unwrap_or((*square / 2).max(1));
        }
        Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam => {}
    }
    for (option, left) in [("steps", steps), ("patch", patch), ("stride", stride)] {
        if left.is_some() {
            return Err(Failure::call(format!("--{option} says nothing to --method {}", arguments.method)));
        }
    }
    Ok(method)
}

/// A model with what explains and what judges.
struct Explaining {
    model: Model,
    class: Option<usize>,
    method: MethodRecord,
    model_sha256: String,
    computation: Computed,
    explainer: Explainer,
    predictor: Predictor,
}

impl Explaining {
    fn new(arguments: &Explain) -> Outcome<Explaining> {
        search::refuse_sealed_model(&arguments.run)?;
        let file = model_file(&arguments.run);
        // The model first: where there is none, its error says what to do.
        let before = sha256(&file);
        let model = Model::open(&arguments.run)?;
        let model_sha256 = sha256(&file)?;
        if before.is_ok_and(|before| before != model_sha256) {
            return Err(Failure::work(format!("{}: it was replaced while it was read; try again", file.display())));
        }
        let classes = &model.description.classes;
        let class = match &arguments.class {
            None => None,
            Some(name) => Some(classes.iter().position(|class| class == name).ok_or_else(|| {
                Failure::call(format!("--class {name}: no such class; the classes are {}", classes.join(", ")))
            })?),
        };
        let method = method(arguments, model.network.image_size())?;
        let engine: CpuEngine = start::engine(arguments.computation.threads)?;
        let settings = resolve::engine_settings(&arguments.run)?;
        let arithmetic = resolve::arithmetic_of_run(&settings, &arguments.computation);
        let module = arguments.module.as_deref();
        let explainer = Explainer::new(&engine, &model.network, method, module, arithmetic, None)?;
        let predictor = Predictor::new(&engine, &model.network, arithmetic, None)?;
        Ok(Explaining {
            class,
            method: MethodRecord::new(method, explainer.module()),
            model_sha256,
            computation: resolve::computation_of_run(&settings, &arguments.computation),
            model,
            explainer,
            predictor,
        })
    }

    /// Refuses to write over maps of something else, whichever class it comes to.
    fn refuse_others(&self, arguments: &Explain, path: &Path, name: &str, mask: Option<&Path>) -> Outcome {
        let classes = match self.class {
            Some(class) => &self.model.description.classes[class..=class],
            None => &self.model.description.classes,
        };
        let stems = classes.iter().map(|class| (class, self.stem(name, class)));
        let there: Vec<_> = stems.filter(|(_, stem)| !files_there(&arguments.out, stem).is_empty()).collect();
        if there.is_empty() {
            return Ok(());
        }
        // An image that cannot be read gets no map.
        let (Ok(image), Ok(mask)) = (sha256(path), mask.map(sha256).transpose()) else { return Ok(()) };
        let origin = self.origin(arguments, image, mask);
        there.iter().try_for_each(|(class, stem)| origin.refuse_others(&arguments.out, stem, class))
    }

    fn origin(&self, arguments: &Explain, image_sha256: String, mask_sha256: Option<String>) -> Origin {
        Origin {
            method: self.method.clone(),
            model_sha256: self.model_sha256.clone(),
            image_sha256,
            mask_sha256,
            frame: arguments.frame,
            computation: self.computation,
            curve_steps: arguments.curve_steps,
        }
    }

    /// What the names of a map's files begin with.
    fn stem(&self, name: &str, class: &str) -> String {
        format!("{}-{}", stem(name, class), self.method.name)
    }

    /// Explains an image, writes its files and says what they show.
    fn record(&mut self, arguments: &Explain, path: &Path, opened: Opened, name: &str) -> Outcome<Record> {
        let Opened { image, lungs, image_sha256, mask_sha256 } = opened;
        let origin = self.origin(arguments, image_sha256, mask_sha256);
        let store = &mut self.model.store;
        let transform = Transform { image_size: self.model.network.image_size(), augment: Augment::None };
        let mut tensor = vec![0.0; transform.tensor_len()];
        transform.apply(&image, None, &mut tensor);
        let explanation = self.explainer.explain_tensor(store, &tensor, self.class)?;
        let Explanation { class, map, .. } = &explanation;
        let curves = match arguments.curve_steps {
            0 => None,
            steps => Some(Curves::measure(&mut self.predictor, store, &tensor, map, *class, steps)?),
        };
        let classes = &self.model.description.classes;
        let stem = self.stem(name, &classes[*class]);
        let [json, npy, png, svg] = ENDINGS.map(|ending| arguments.out.join(format!("{stem}{ending}")));
        let record = Record::new(path, &image, classes, origin, &explanation, curves.as_ref(), lungs);
        write_atomically(&json, |out| {
            serde_json::to_writer_pretty(&mut *out, &record)?;
            writeln!(out)
        })?;
        write_atomically(&npy, |out| npy::write(out, map.height, map.width, &map.values))?;
        let overlay = overlay(&image, &explanation, &record.caption())?;
        write_atomically(&png, |out| out.write_all(&overlay))?;
        if let Some(curves) = &curves {
            let deletion = (curves.deletion.as_slice(), curves.deletion_area());
            let insertion = (curves.insertion.as_slice(), curves.insertion_area());
            write_removal_curves(&svg, &classes[*class], deletion, insertion)?;
        }
        Ok(record)
    }
}

/// The image with the map over it and its legend.
fn overlay(image: &Image, explanation: &Explanation, lines: &[String]) -> Outcome<Vec<u8>> {
    let longest = image.width().max(image.height()).clamp(*OVERLAY_SIDES.start(), *OVERLAY_SIDES.end());
    let (pixels, width, height) = displayed(image, longest);
    let map = &explanation.map;
    let picture =
        HeatPicture { pixels, width, height, evidence: map.evidence_over(width, height), largest: map.largest() };
    Ok(picture.overlay_png(lines)?)
}
