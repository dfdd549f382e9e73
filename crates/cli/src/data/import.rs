//! `roentgen data import`

use super::output;
use crate::failure::{Failure, Outcome};
use crate::progress::Count;
use clap::Args;
use roentgen_data::sources::Kind;
use roentgen_data::{Imported, Rules, Source, import_watched};
use roentgen_run::directory::write_atomically;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `roentgen data import`
#[derive(Debug, Args)]
#[command(
    after_help = "KIND is one of covidx, covid-chestxray, figure1, actualmed, rsna, nih, chexpert, mimic and paediatric; \
    without it, the files in DIR say what it is. Tables of our own and folders of split folders are sources too: their \
    labels stay. Several sources become one data set:\n\n  \
      roentgen data import nih /data/nih --out nih.csv\n  \
      roentgen data import rsna=/data/rsna /data/actualmed ours.csv --rules three.toml --out all.csv\n\n\
    Rules say which findings make which class; what no rule names is left out, and counted. By default `infected` is COVID-19 \
    and pneumonia, `normal` is normal and no finding. As TOML, in which the first class that applies counts:\n\n  \
      uncertain = \"drop\"      # CheXpert's and MIMIC's -1: drop, positive or negative\n  \
      frontal_only = true     # leave out lateral views\n  \
      [[class]]\n  \
      name = \"covid\"\n  \
      findings = [\"COVID-19\"]\n  \
      [[class]]\n  \
      name = \"normal\"\n  \
      findings = [\"normal\", \"No Finding\"]"
)]
pub struct Import {
    /// What to import: KIND DIR..., or KIND=DIR and DIR in any number; a COVIDx list may stand in place of its folder
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Table to write
    #[arg(long, value_name = "FILE.csv")]
    out: PathBuf,
    /// Which findings make which class
    #[arg(long, value_name = "FILE.toml")]
    rules: Option<PathBuf>,
    /// Also write a table of every image that was left out, and why
    #[arg(long, value_name = "FILE.csv")]
    dropped: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Import) -> Outcome {
    for table in [Some(&arguments.out), arguments.dropped.as_ref()].into_iter().flatten() {
        output::refuse_existing(table, None)?;
    }
    let rules = match &arguments.rules {
        Some(file) => Rules::read(file).map_err(|error| Failure::Call(error.into()))?,
        None => Rules::default(),
    };
    let sources = sources(&arguments.sources)?;
    let progress = Count::of_unknown("reading what is known of", "images");
    let imported = import_watched(&sources, &rules, |done, all| progress.done_of(done, all))?;
    drop(progress);
    for warning in &imported.manifest.warnings {
        eprintln!("warning: {warning}");
    }
    output::write(&imported.manifest, &arguments.out)?;
    if let Some(file) = &arguments.dropped {
        write_dropped(&imported, &sources, file)?;
    }
    print_summary(&imported, &sources)?;
    println!();
    output::print_counts(&imported.manifest)?;
    if let [class] = imported.manifest.classes.as_slice() {
        eprintln!("warning: only the class `{class}`: training needs two at least; give --rules, or another source");
    }
    eprintln!("wrote {}", arguments.out.display());
    if !imported.manifest.rows.iter().any(|row| row.split != roentgen_data::Split::Unassigned) {
        let out = arguments.out.display();
        eprintln!("next: roentgen data split {out} --ratios 0.7,0.15,0.15 --out {out}");
    }
    Ok(())
}

/// What the words name: `KIND DIR...`, or any number of `KIND=DIR` and `DIR`. A folder that is called as a kind is, and
/// stands before others, is `./nih`.
fn sources(words: &[PathBuf]) -> Outcome<Vec<Source>> {
    let kind = |text: &str| text.parse::<Kind>().map_err(|error| Failure::Call(error.into()));
    let found = |place: &Path| match place.exists() {
        true => Ok(()),
        false => Err(Failure::call(format!("{}: no such folder or table", place.display()))),
    };
    if let [first, places @ ..] = words
        && let Some(Ok(first_kind)) = first.to_str().map(str::parse::<Kind>)
        && !(places.is_empty() && first.exists())
    {
        if places.is_empty() {
            return Err(Failure::call(format!("{first_kind}: give the folder as well, as in `{first_kind} DIR`")));
        }
        let source = |place: &PathBuf| found(place).map(|()| Source { kind: Some(first_kind), place: place.clone() });
        return places.iter().map(source).collect();
    }
    let source = |word: &PathBuf| -> Outcome<Source> {
        // A folder may have a `=` in its name.
        if !word.exists()
            && let Some((name, place)) = word.to_str().and_then(|text| text.split_once('='))
        {
            let place = PathBuf::from(place);
            found(&place)?;
            return Ok(Source { kind: Some(kind(name)?), place });
        }
        found(word)?;
        Ok(Source::detect(word)?)
    };
    words.iter().map(source).collect()
}

/// What became of each source.
fn print_summary(imported: &Imported, sources: &[Source]) -> Outcome {
    let mut out = std::io::stdout().lock();
    for (number, source) in sources.iter().enumerate() {
        let kind = source.kind.map_or("table or folders", Kind::name);
        let (named, kept) = (imported.named[number], imported.kept[number]);
        writeln!(out, "{} ({kind}): {kept} of {named} images", source.place.display())?;
        for (reason, count) in imported.reasons(number) {
            writeln!(out, "  left out {count:>7}  {reason}")?;
        }
    }
    Ok(())
}

/// Every image that was left out, and why.
fn write_dropped(imported: &Imported, sources: &[Source], file: &Path) -> Outcome {
    write_atomically(file, |out| {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(["source", "image", "reason"])?;
        for dropped in &imported.dropped {
            let source = sources[dropped.source].place.display().to_string();
            writer.write_record([&source, &dropped.name, &dropped.reason])?;
        }
        writer.flush()
    })?;
    Ok(())
}
