//! `roentgen completions` and `roentgen man`: what shells and `man` read, made from the command line's own words.

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use roentgen_run::directory::write_atomically;
use std::io::Write;
use std::path::PathBuf;

/// `roentgen completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `roentgen man`
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page of every command into a folder, and print nothing of them
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints the script that completes the command line in a shell.
pub fn completions(arguments: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "roentgen", &mut script);
    // Of its own accord the generator panics where nobody reads.
    std::io::stdout().write_all(&script)?;
    Ok(())
}

/// Prints the manual page, or writes one a command: `roentgen.1`, `roentgen-train.1` and so on.
pub fn man(arguments: &Man) -> Outcome {
    let mut command = Arguments::command();
    command.build();
    let Some(folder) = &arguments.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
        return Ok(());
    };
    if folder.exists() && !folder.is_dir() {
        return Err(Failure::call(format!("--out {}: expected a folder", folder.display())));
    }
    let mut pages = 0;
    let mut waiting = vec![("roentgen".to_owned(), command)];
    while let Some((name, command)) = waiting.pop() {
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        waiting.extend(below.map(|below| (format!("{name}-{}", below.get_name()), below.clone())));
        let file = folder.join(format!("{name}.1"));
        let version = format!("roentgen {}", env!("CARGO_PKG_VERSION"));
        let page = clap_mangen::Man::new(command).title(name).source(version);
        write_atomically(&file, |out| page.render(out))?;
        pages += 1;
    }
    eprintln!("wrote {pages} pages into {}", folder.display());
    Ok(())
}
