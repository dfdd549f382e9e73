//! Fetches torchvision's weight files once into the user's cache folder.
//!
//! A file is written beside its place as `NAME.part`, taken up again after a break, and moved into place only when its
//! SHA-256 begins as its name says. Processes that want the same file at once take turns.

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where PyTorch publishes torchvision's weights.
pub const OFFICIAL_ADDRESS: &str = "https://download.pytorch.org/models/";

/// A file to fetch.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile<'a> {
    /// Its name, at the base address and in the cache folder.
    pub name: &'a str,
    /// The first hexadecimal digits of its SHA-256, in lower case.
    pub sha256_prefix: &'a str,
}

/// How long and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest wait for a connection, and for the server's name to be resolved.
    pub connect: Duration,
    /// Longest silence of the server before the connection counts as broken. A slow download has no limit in all.
    pub silence: Duration,
    /// Connections tried in all, at least 1.
    pub attempts: u32,
    /// Wait before the second attempt; each further wait is twice as long.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_secs(1),
        }
    }
}

/// Fetches an official weight file unless the cache folder has it: `ROENTGEN_WEIGHTS_URL` sets another base address,
/// `ROENTGEN_CACHE` another folder. Shows a progress bar on stderr where that is a terminal. Returns the file's path.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_official(name: &str, sha256_prefix: &str) -> Result<PathBuf> {
    let address = base_address(|name| std::env::var_os(name));
    let folder = cache_folder()?;
    fetch(&RemoteFile { name, sha256_prefix }, &address, &folder, &Limits::default(), &progress_bar())
}

/// The folder for downloads, see [`cache_folder_from`].
///
/// # Errors
/// The environment names no home folder.
pub fn cache_folder() -> Result<PathBuf> {
    cache_folder_from(|name| std::env::var_os(name))
}

/// The base address: `ROENTGEN_WEIGHTS_URL` if that is set and not empty, else [`OFFICIAL_ADDRESS`]. `variable` looks
/// up environment variables.
pub fn base_address(variable: impl Fn(&str) -> Option<OsString>) -> String {
    match variable("ROENTGEN_WEIGHTS_URL").map(|address| address.to_string_lossy().into_owned()) {
        Some(address) if !address.is_empty() => address,
        _ => OFFICIAL_ADDRESS.to_owned(),
    }
}

/// The folder for downloads: `ROENTGEN_CACHE`, else `roentgen` in `XDG_CACHE_HOME`, else `roentgen` in the system's
/// folder for caches. Empty variables count as unset, and so does an `XDG_CACHE_HOME` that is not absolute, as its
/// specification says. `variable` looks up environment variables.
///
/// # Errors
/// No variable names a home folder.
pub fn cache_folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = folder("ROENTGEN_CACHE") {
        return Ok(own);
    }
    let caches = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| {
        if cfg!(windows) {
            folder("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            folder("HOME").map(|home| home.join("Library/Caches"))
        } else {
            folder("HOME").map(|home| home.join(".cache"))
        }
    });
    let caches = caches.context("no home folder is known, so no folder for downloads; set ROENTGEN_CACHE to one")?;
    Ok(caches.join("roentgen"))
}

/// A bar on stderr with bytes, speed and time left; hidden where stderr is no terminal.
pub fn progress_bar() -> ProgressBar {
    let template = "{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// The path of `file` in `cache_folder`, downloaded from `base_address` if it is not there or is damaged.
///
/// # Errors
/// The file cannot be had; the message says which file to put where. What arrived of it stays as `NAME.part` for the
/// next call, unless it is corrupt.
pub fn fetch(
    file: &RemoteFile<'_>,
    base_address: &str,
    cache_folder: &Path,
    limits: &Limits,
    progress: &ProgressBar,
) -> Result<PathBuf> {
    let target = cache_folder.join(file.name);
    // Without the lock first: a cache folder that is read-only may still have the file.
    if target.exists() && is_intact(file, &target)? {
        return Ok(target);
    }
    std::fs::create_dir_all(cache_folder).with_context(|| {
        format!("cannot make the folder for downloads {}; set ROENTGEN_CACHE to another", cache_folder.display())
    })?;
    let _lock = wait_for_turn(&cache_folder.join(format!(".{}.lock", file.name)), progress)?;
    if target.exists() {
        if is_intact(file, &target)? {
            return Ok(target);
        }
        say(progress, &format!("{} is damaged and is fetched again", target.display()));
        std::fs::remove_file(&target).with_context(|| format!("cannot delete the damaged {}", target.display()))?;
    }

    let address = format!("{}/{}", base_address.trim_end_matches('/'), file.name);
    let download =
        Download { file, address: &address, part: cache_folder.join(format!("{}.part", file.name)), progress };
    progress.set_message(file.name.to_owned());
    let outcome = download.run(limits);
    progress.finish_and_clear();
    outcome.and_then(|()| install(&download.part, &target)).with_context(|| {
        format!(
            "cannot fetch the weights; to go on without a network, put {address} at {} (its SHA-256 begins with {})",
            target.display(),
            file.sha256_prefix
        )
    })?;
    Ok(target)
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed.
    Passing(anyhow::Error),
    /// It will not.
    Lasting(anyhow::Error),
}

struct Download<'a> {
    file: &'a RemoteFile<'a>,
    address: &'a str,
    part: PathBuf,
    progress: &'a ProgressBar,
}

impl Download<'_> {
    /// Attempts until the part is whole and intact.
    fn run(&self, limits: &Limits) -> Result<()> {
        let config = ureq::Agent::config_builder()
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.silence))
            .timeout_per_write(Some(limits.silence))
            // What began encrypted is not redirected to a plain connection.
            .https_only(self.address.starts_with("https:"))
            .http_status_as_error(false)
            .user_agent(concat!("roentgen/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let mut pause = limits.pause;
        let mut attempt = 1;
        loop {
            match self.attempt(&agent) {
                Ok(()) => return Ok(()),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error)) if attempt >= limits.attempts => {
                    return Err(error.context(format!("gave up after {attempt} attempts")));
                }
                Err(Failure::Passing(error)) => {
                    say(self.progress, &format!("{}: {error:#}; trying again", self.file.name));
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                    attempt += 1;
                }
            }
        }
    }

    /// One request, for what is missing of the part.
    fn attempt(&self, agent: &ureq::Agent) -> Result<(), Failure> {
        // No part, or one that cannot be looked at: then writing it will say why.
        let here = std::fs::metadata(&self.part).map_or(0, |metadata| metadata.len());
        let mut request = agent.get(self.address).header("Accept-Encoding", "identity");
        if here > 0 {
            request = request.header("Range", format!("bytes={here}-"));
        }
        let mut response = request.call().map_err(|error| self.passing(error.into()))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (start, total) = match response.status().as_u16() {
            // Also from a server that does not know ranges: it sends everything.
            200 => (0, header("Content-Length").and_then(|length| length.parse().ok())),
            206 => match header("Content-Range").and_then(parse_content_range) {
                Some((start, total)) if start == here => (here, total),
                _ => return Err(self.start_over("the server sent another part than was asked for")),
            },
            // Nothing is missing, if the part is the file.
            416 if here > 0 => return self.check(here),
            status @ (408 | 429 | 500..=599) => {
                return Err(self.passing(anyhow!("the server answers {status}")));
            }
            status => return Err(Failure::Lasting(anyhow!("{}: the server answers {status}", self.address))),
        };
        let mut part = self.open_part(start).map_err(|error| self.cannot_write(&error))?;
        self.progress.set_length(total.unwrap_or(start));
        self.progress.set_position(start);

        let mut body = response.body_mut().as_reader();
        let mut position = start;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => {
                    part.write_all(&buffer[..bytes]).map_err(|error| self.cannot_write(&error))?;
                    position += bytes as u64;
                    self.progress.set_position(position);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken_off(position, total, error.into())),
            }
        }
        if total.is_some_and(|total| position < total) {
            return Err(self.broken_off(position, total, anyhow!("the connection ended")));
        }
        part.sync_all().map_err(|error| self.cannot_write(&error))?;
        self.check(start)
    }

    /// The part, cut off after `length` bytes and ready to go on there.
    fn open_part(&self, length: u64) -> io::Result<File> {
        let mut part = OpenOptions::new().create(true).write(true).truncate(false).open(&self.part)?;
        part.set_len(length)?;
        part.seek(SeekFrom::Start(length))?;
        Ok(part)
    }

    /// Compares the part's SHA-256. A part that was taken up from `resumed_from` may have been bad before, so it is
    /// worth a fresh attempt; a file that came in one piece is what the server has.
    fn check(&self, resumed_from: u64) -> Result<(), Failure> {
        let found = sha256(&self.part).map_err(Failure::Lasting)?;
        if found.starts_with(self.file.sha256_prefix) {
            return Ok(());
        }
        if resumed_from > 0 {
            return Err(self.start_over("what was resumed is corrupt"));
        }
        self.discard()?;
        Err(Failure::Lasting(anyhow!(
            "{} is corrupt and was deleted: its SHA-256 begins with {}, not with {}",
            self.address,
            &found[..self.file.sha256_prefix.len().min(found.len())],
            self.file.sha256_prefix
        )))
    }

    fn start_over(&self, reason: &str) -> Failure {
        match self.discard() {
            Ok(()) => self.passing(anyhow!("{reason}, it starts over")),
            Err(failure) => failure,
        }
    }

    fn discard(&self) -> Result<(), Failure> {
        std::fs::remove_file(&self.part).map_err(|error| {
            Failure::Lasting(anyhow!(error).context(format!("cannot delete the corrupt {}", self.part.display())))
        })
    }

    fn passing(&self, error: anyhow::Error) -> Failure {
        Failure::Passing(error.context(self.address.to_owned()))
    }

    fn broken_off(&self, position: u64, total: Option<u64>, error: anyhow::Error) -> Failure {
        let of_total = total.map(|total| format!(" of {total}")).unwrap_or_default();
        self.passing(error.context(format!("broken off after {position}{of_total} bytes")))
    }

    /// A full disk, say. The part is deleted: it may be what fills the disk.
    fn cannot_write(&self, error: &io::Error) -> Failure {
        // The error to report is the writing one, whether or not the deletion succeeds.
        let _ = std::fs::remove_file(&self.part);
        Failure::Lasting(anyhow!("cannot write {}: {error}; set ROENTGEN_CACHE to another folder", self.part.display()))
    }
}

/// First byte and length of the whole from `bytes FIRST-LAST/LENGTH`; the length may be `*`, unknown.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, length.parse().ok()))
}

/// Moves a finished part into place, so that a crash leaves either no file or the whole one.
fn install(part: &Path, target: &Path) -> Result<()> {
    std::fs::rename(part, target).with_context(|| format!("cannot move {} to {}", part.display(), target.display()))?;
    // The name, too, has to reach the disk. Folders cannot be opened on every system; the file is intact either way.
    if let Some(Ok(folder)) = target.parent().map(File::open) {
        folder.sync_all().ok();
    }
    Ok(())
}

fn is_intact(file: &RemoteFile<'_>, path: &Path) -> Result<bool> {
    Ok(sha256(path)?.starts_with(file.sha256_prefix))
}

/// The SHA-256 of a file in lower-case hexadecimal digits.
pub fn sha256(path: &Path) -> Result<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hexadecimal(&digest.finalize())),
                bytes => digest.update(&buffer[..bytes]),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Holds the lock file until the result is dropped. The file stays: deleting it while another process waits for it
/// would let a third one in.
fn wait_for_turn(lock: &Path, progress: &ProgressBar) -> Result<Option<File>> {
    let cannot_write = || format!("cannot write {}; set ROENTGEN_CACHE to another folder", lock.display());
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(lock).with_context(cannot_write)?;
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => say(progress, "waiting for another process that fetches the same file"),
        Err(TryLockError::Error(error)) => return without_lock(error, cannot_write),
    }
    match file.lock() {
        Ok(()) => Ok(Some(file)),
        Err(error) => without_lock(error, cannot_write),
    }
}

/// Some network file systems have no locks. Two processes might then write one part; the checksum finds that out.
fn without_lock(error: io::Error, context: impl FnOnce() -> String) -> Result<Option<File>> {
    if error.kind() == io::ErrorKind::Unsupported {
        return Ok(None);
    }
    bail!("{}: {error}", context());
}

/// A line on stderr that leaves the bar whole.
fn say(progress: &ProgressBar, line: &str) {
    progress.suspend(|| eprintln!("{line}"));
}
