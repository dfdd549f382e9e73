//! Decoded images on disk: decoding a radiograph of 1024 x 1024 pixels takes ten times as long as what follows.
//!
//! An entry is an image after the first step of every transform, in which its short side gets the length that the
//! network's input asks for ([`resized_size`](crate::transform::resized_size)): 64 KiB of a grey image at the usual 224
//! pixels, in 8 or 16 bits as the file has them. All that is random comes later, so that an image from the cache gives
//! the same bits as one from its file.
//!
//! It is found by the SHA-256 of the file's bytes, of how images are decoded and resized (`DECODING`), of the form of the entry,
//! and of the short side: copies under other names share an entry, and a file that was changed has another. Each file is read once a
//! process for that; afterwards its path is enough.
//!
//! What an audit sees of an image ([`Look`]) is kept in the same way, 21 KiB each.
//!
//! Several processes may share a folder, and be killed at any moment: an entry is written under another name and renamed,
//! and its checksum is looked at whenever it is read. What is damaged is decoded again. Where nothing can be written,
//! all goes on without. [`ImageCache::open`] bounds the folder; several processes that fill it at the same time may
//! exceed the bound until the next one opens it.

pub mod entry;
mod header;
pub mod look;
mod room;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::audit::{Glance, Look, PixelDigest};
use crate::decode::{Limits, decode_bytes, read_file};
use crate::error::DataError;
use crate::raster::Image;
use crate::transform::{resized, short_side};
use crate::wording::counted;
use room::{ENDINGS, Room, name_of};

/// Version of what is done to an image before it is kept: to be raised whenever decoding or resizing gives other pixels.
const DECODING: u32 = 1;

/// SHA-256 of all that an entry depends on.
type Key = [u8; 32];

/// What is kept of an image file. Each has an entry of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kept {
    /// The image, with a short side of so many pixels.
    Pixels { short_side: usize },
    /// What an audit sees of it.
    Look,
}

impl Kept {
    fn ending(self) -> &'static str {
        match self {
            Kept::Pixels { .. } => ENDINGS[0],
            Kept::Look => ENDINGS[1],
        }
    }

    /// Of a file with these bytes. The form of the entry is a part of it, so that nobody meets entries of another version;
    /// they grow old and give way.
    fn key(self, bytes: &[u8]) -> Key {
        let (version, short_side) = match self {
            Kept::Pixels { short_side } => (entry::VERSION, short_side as u64),
            Kept::Look => (look::VERSION, 0),
        };
        let mut hash = Sha256::new();
        hash.update(self.ending());
        hash.update(version.to_le_bytes());
        hash.update(DECODING.to_le_bytes());
        hash.update(short_side.to_le_bytes());
        hash.update(bytes);
        hash.finalize().into()
    }
}

/// A folder of decoded images.
pub struct ImageCache {
    folder: PathBuf,
    /// Keys of files that this process has read, by path and what is kept of them.
    known: Mutex<HashMap<(PathBuf, Kept), Key>>,
    room: Mutex<Room>,
    limit_bytes: u64,
    /// Set once nothing more is written.
    closed: AtomicBool,
    found: AtomicU64,
    made: AtomicU64,
    damaged: Mutex<HashSet<(Key, Kept)>>,
    notice: Box<dyn Fn(CacheNotice) + Send + Sync>,
}

/// What the user should hear of.
#[derive(Debug)]
pub enum CacheNotice {
    /// An entry was damaged; it is made again, as are others that are. Said of the first, and of all when the cache is
    /// closed: [`CacheNotice::Mended`].
    Damaged {
        /// Its file.
        entry: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// So many entries were damaged.
    Mended {
        /// The folder.
        folder: PathBuf,
        /// Their number, at least 1.
        entries: usize,
    },
    /// The bound is reached with images that this process needs.
    Full {
        /// The folder.
        folder: PathBuf,
        /// The bound.
        limit_bytes: u64,
    },
    /// The folder cannot be written to.
    GivenUp {
        /// What could not be written.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl fmt::Display for CacheNotice {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheNotice::Damaged { entry, detail } => {
                write!(to, "{}: damaged: {detail}; decoded again, as all others that are", entry.display())
            }
            CacheNotice::Mended { folder, entries } => {
                write!(to, "{}: ", folder.display())?;
                to.write_str(&counted(
                    *entries,
                    "entry was damaged and was decoded again",
                    "entries were damaged and were decoded again",
                ))
            }
            CacheNotice::Full { folder, limit_bytes } => write!(
                to,
                "{}: full at {} MiB with images of this data; the others are decoded each time",
                folder.display(),
                limit_bytes >> 20
            ),
            CacheNotice::GivenUp { path, source } => write!(
                to,
                "{}: cannot be written: {source}; goes on without, and decodes images each time",
                path.display()
            ),
        }
    }
}

/// What a cache was good for so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheUse {
    /// Images that were read from it.
    pub found: u64,
    /// Images that were decoded.
    pub made: u64,
    /// Entries that were damaged, each once however often it was asked for.
    pub damaged: u64,
    /// Bytes that its entries take.
    pub bytes: u64,
}

impl ImageCache {
    /// Opens a folder of at most `limit_bytes`, which need not exist: it is made for the first entry. `notice` hears what
    /// the user should know, from any thread.
    pub fn open(folder: &Path, limit_bytes: u64, notice: impl Fn(CacheNotice) + Send + Sync + 'static) -> ImageCache {
        ImageCache {
            folder: folder.to_owned(),
            known: Mutex::default(),
            room: Mutex::new(Room::look(folder, limit_bytes)),
            limit_bytes,
            closed: AtomicBool::new(false),
            found: AtomicU64::new(0),
            made: AtomicU64::new(0),
            damaged: Mutex::default(),
            notice: Box::new(notice),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it was good for so far.
    pub fn usage(&self) -> CacheUse {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let damaged = lock(&self.damaged).len() as u64;
        CacheUse { found: count(&self.found), made: count(&self.made), damaged, bytes: lock(&self.room).bytes() }
    }

    /// An image file, decoded and resized for networks of `image_size`: what
    /// [`Transform::apply`](crate::Transform::apply) makes of it has the bits that it makes of the image itself.
    ///
    /// # Errors
    /// As [`decode`](crate::decode::decode).
    pub fn read(&self, path: &Path, limits: &Limits, image_size: usize) -> Result<Image, DataError> {
        Ok(self.pixels(path, limits, image_size)?.1)
    }

    /// What is kept of an image file that was looked at once; the image is in the cache afterwards.
    ///
    /// # Errors
    /// As [`decode`](crate::decode::decode).
    pub fn glance(&self, path: &Path, limits: &Limits, image_size: usize) -> Result<Glance, DataError> {
        let (pixels, image) = self.pixels(path, limits, image_size)?;
        Ok(Glance { pixels, dim: image.is_dim() })
    }

    /// What an audit sees of an image file: the same whether it is here already or not.
    ///
    /// # Errors
    /// As [`decode`](crate::decode::decode).
    pub fn look(&self, path: &Path, limits: &Limits) -> Result<Look, DataError> {
        self.entry(path, limits, Kept::Look, look::read, |bytes| {
            let seen = Look::at(&path.display().to_string(), bytes, limits)?;
            let mut file = Vec::new();
            look::write(&seen, &mut file);
            Ok((seen, file))
        })
    }

    fn pixels(&self, path: &Path, limits: &Limits, image_size: usize) -> Result<(PixelDigest, Image), DataError> {
        self.entry(path, limits, Kept::Pixels { short_side: short_side(image_size) }, entry::read, |bytes| {
            let image = decode_bytes(&path.display().to_string(), bytes, limits)?;
            let pixels = PixelDigest::of(&image);
            let image = resized(image, image_size);
            let mut file = Vec::new();
            entry::write(&image, &pixels, &mut file);
            Ok(((pixels, image), file))
        })
    }

    /// What is `kept` of an image file: read from its entry, or else made of the file's bytes, with the bytes of the entry.
    fn entry<T>(
        &self,
        path: &Path,
        limits: &Limits,
        kept: Kept,
        read: impl Fn(&[u8]) -> Result<T, String>,
        make: impl FnOnce(&[u8]) -> Result<(T, Vec<u8>), DataError>,
    ) -> Result<T, DataError> {
        let name = (path.to_owned(), kept);
        let known = lock(&self.known).get(&name).copied();
        if let Some(entry) = known.and_then(|key| self.find(&key, kept, &read)) {
            return Ok(entry);
        }
        let bytes = read_file(path, limits)?;
        let key = kept.key(&bytes);
        let is_new = lock(&self.known).insert(name, key) != Some(key);
        if is_new && let Some(entry) = self.find(&key, kept, &read) {
            return Ok(entry);
        }
        let (entry, file) = make(&bytes)?;
        self.made.fetch_add(1, Ordering::Relaxed);
        self.keep(&key, kept, &file);
        Ok(entry)
    }

    fn file_of(&self, key: &Key, kept: Kept) -> PathBuf {
        let name = name_of(key);
        self.folder.join(&name[..2]).join(format!("{name}.{}", kept.ending()))
    }

    /// An entry that is there and whole.
    fn find<T>(&self, key: &Key, kept: Kept, read: impl Fn(&[u8]) -> Result<T, String>) -> Option<T> {
        thread_local! {
            /// Of the entry that is being read.
            static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let path = self.file_of(key, kept);
        let mut file = File::open(&path).ok()?;
        let entry = BYTES.with_borrow_mut(|bytes| {
            bytes.clear();
            file.read_to_end(bytes).map_err(|error| error.to_string()).and_then(|_| read(bytes))
        });
        match entry {
            Ok(entry) => {
                if lock(&self.room).uses(*key) {
                    // So that what is used last is thrown out last; a folder that is read only goes by age.
                    let _ = file.set_modified(SystemTime::now());
                }
                self.found.fetch_add(1, Ordering::Relaxed);
                Some(entry)
            }
            Err(detail) => {
                let is_first = {
                    let mut damaged = lock(&self.damaged);
                    damaged.insert((*key, kept)) && damaged.len() == 1
                };
                if is_first {
                    (self.notice)(CacheNotice::Damaged { entry: path, detail });
                }
                None
            }
        }
    }

    /// Writes an entry, if that is possible.
    fn keep(&self, key: &Key, kept: Kept, bytes: &[u8]) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let has_room = {
            let mut room = lock(&self.room);
            room.uses(*key);
            room.make(key, bytes.len() as u64)
        };
        if !has_room {
            self.close(CacheNotice::Full { folder: self.folder.clone(), limit_bytes: self.limit_bytes });
        } else if let Err((path, source)) = self.write(&self.file_of(key, kept), bytes) {
            lock(&self.room).give_back(key);
            self.close(CacheNotice::GivenUp { path, source });
        }
    }

    /// Writes nothing from here on, and says why, once.
    fn close(&self, why: CacheNotice) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            (self.notice)(why);
        }
    }

    /// Under a name of its own first, so that nobody ever sees a part of it.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), (PathBuf, io::Error)> {
        // One count for all caches of the process: they may share a folder.
        static PARTS: AtomicU64 = AtomicU64::new(0);
        let number = PARTS.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let write = || match fs::write(&part, bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(&part, bytes)
            }
            other => other,
        };
        write().and_then(|()| fs::rename(&part, path)).map_err(|error| {
            // Perhaps it was never there.
            let _ = fs::remove_file(&part);
            (path.to_owned(), error)
        })
    }
}

impl Drop for ImageCache {
    fn drop(&mut self) {
        let entries = lock(&self.damaged).len();
        if entries > 0 {
            (self.notice)(CacheNotice::Mended { folder: self.folder.clone(), entries });
        }
    }
}

impl fmt::Debug for ImageCache {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("ImageCache").field("folder", &self.folder).field("usage", &self.usage()).finish()
    }
}

/// What a panicking thread left is as good as before: no update here has two halves.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
