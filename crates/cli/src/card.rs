//! `roentgen card`

use crate::failure::Outcome;
use clap::Args;
use roentgen_report::write_card;
use roentgen_run::RunDirectory;
use std::io::Write;
use std::path::PathBuf;

/// `roentgen card`
#[derive(Debug, Args)]
pub struct Card {
    /// Run directory
    pub run: PathBuf,
}

/// Runs the command, and prints the paths of what it wrote.
pub fn run(arguments: &Card) -> Outcome {
    let run = RunDirectory::open(&arguments.run)?;
    let (card, files) = write_card(&run)?;
    let open: Vec<&str> = card.open_questions().collect();
    if !open.is_empty() {
        let file = run.card_statements_file();
        eprintln!("open, to be answered by people in {}: {}", file.display(), open.join(", "));
    }
    let mut out = std::io::stdout().lock();
    files.iter().try_for_each(|file| writeln!(out, "{}", file.display()))?;
    Ok(())
}
