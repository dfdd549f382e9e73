//! Downloads from a server on loopback that truncates, corrupts, stalls, knows no ranges, and refuses.

#[path = "../src/download.rs"]
#[allow(dead_code, reason = "the binary uses the parts that read the environment")]
mod download;

use download::{Limits, OFFICIAL_ADDRESS, RemoteFile, base_address, cache_folder_from, fetch};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NAME: &str = "resnet18-test.pth";

/// What the server does with one connection.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Sends what was asked for.
    Whole,
    /// Sends everything, whatever range was asked for.
    IgnoringRange,
    /// Announces what was asked for, sends this many bytes and closes.
    Truncated(usize),
    /// Announces what was asked for, sends this many bytes and says nothing more.
    Stalled(usize),
    /// Says nothing at all.
    Silent,
    /// Sends what was asked for with its last byte changed.
    Corrupt,
    /// Answers a range with one that starts a byte later.
    WrongRange,
    /// Sends everything without saying how much it is, and closes after this many bytes.
    WithoutLength(usize),
    /// Refuses.
    Status(u16),
}

/// A server that answers each connection by the next entry of a script, then refuses.
struct Server {
    address: String,
    /// The `Range` header of each request, empty where there was none.
    ranges: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(content: &[u8], script: &[Answer]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/models", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (content, script, log) = (content.to_vec(), script.to_vec(), ranges.clone());
        std::thread::spawn(move || {
            for (index, connection) in listener.incoming().flatten().enumerate() {
                let answer = script.get(index).copied().unwrap_or(Answer::Status(599));
                let (content, log) = (content.clone(), log.clone());
                // The client may be gone in the middle, as a stalled one is.
                std::thread::spawn(move || serve(connection, answer, &content, &log).ok());
            }
        });
        Server { address, ranges }
    }

    fn ranges(&self) -> Vec<String> {
        self.ranges.lock().unwrap().clone()
    }
}

fn serve(mut connection: TcpStream, answer: Answer, content: &[u8], log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut range = String::new();
    for line in BufReader::new(&connection).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("range")
        {
            range = value.to_owned();
        } else if line.starts_with("GET") {
            assert!(line.starts_with(&format!("GET /models/{NAME} ")), "{line}");
        }
    }
    log.lock().unwrap().push(range.clone());
    let asked: Option<usize> =
        range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).map(|start| start.parse().unwrap());
    let start = match answer {
        Answer::IgnoringRange | Answer::WithoutLength(_) => 0,
        Answer::WrongRange => asked.map_or(0, |start| start + 1),
        _ => asked.unwrap_or(0),
    };
    if let Answer::Status(status) = answer {
        return write!(connection, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if start >= content.len() {
        return write!(connection, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut body = content[start..].to_vec();
    let head = match (asked, answer) {
        (_, Answer::Silent) => String::new(),
        (_, Answer::WithoutLength(_)) => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(),
        (Some(_), _) if start > 0 => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            content.len() - 1,
            content.len(),
            body.len()
        ),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()),
    };
    match answer {
        Answer::Truncated(bytes) | Answer::Stalled(bytes) | Answer::WithoutLength(bytes) => body.truncate(bytes),
        Answer::Silent => body.clear(),
        Answer::Corrupt => body.last_mut().map(|byte| *byte ^= 1).unwrap_or_default(),
        _ => {}
    }
    connection.write_all(head.as_bytes())?;
    connection.write_all(&body)?;
    connection.flush()?;
    if matches!(answer, Answer::Stalled(_) | Answer::Silent) {
        // Until the client gives up and closes.
        connection.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Some bytes, and the beginning of their SHA-256.
fn content() -> (Vec<u8>, String) {
    let content: Vec<u8> = (0..300_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = Sha256::digest(&content);
    let prefix = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    (content, prefix)
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    silence: Duration::from_millis(300),
    attempts: 3,
    pause: Duration::from_millis(1),
};

struct Case {
    folder: tempfile::TempDir,
    content: Vec<u8>,
    prefix: String,
}

impl Case {
    fn new() -> Case {
        let (content, prefix) = content();
        Case { folder: tempfile::tempdir().unwrap(), content, prefix }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn target(&self) -> PathBuf {
        self.cache().join(NAME)
    }

    fn part(&self) -> PathBuf {
        self.cache().join(format!("{NAME}.part"))
    }

    fn put(&self, path: &Path, content: &[u8]) {
        std::fs::create_dir_all(self.cache()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn fetch(&self, address: &str) -> anyhow::Result<PathBuf> {
        let file = RemoteFile { name: NAME, sha256_prefix: &self.prefix };
        fetch(&file, address, &self.cache(), &LIMITS, &ProgressBar::hidden())
    }

    /// Fetches by a script; the file must arrive whole, by requests for these ranges.
    fn succeeds(&self, script: &[Answer], ranges: &[&str]) {
        let server = Server::start(&self.content, script);
        let path = self.fetch(&server.address).unwrap_or_else(|error| panic!("{script:?}: {error:#}"));
        assert_eq!(path, self.target());
        assert!(std::fs::read(&path).unwrap() == self.content, "{script:?}: the file holds other bytes");
        assert!(!self.part().exists(), "{script:?}: the part is left");
        assert_eq!(server.ranges(), ranges, "{script:?}");
    }

    /// Fetches by a script; there must be no file, after requests for these ranges. The message is returned.
    fn fails(&self, script: &[Answer], ranges: &[&str]) -> String {
        let server = Server::start(&self.content, script);
        let message = format!("{:#}", self.fetch(&server.address).unwrap_err());
        assert!(!self.target().exists(), "{script:?}: a file is there");
        assert_eq!(server.ranges(), ranges, "{script:?}: {message}");
        for part in [&format!("{}/{NAME}", server.address), self.target().to_str().unwrap(), &self.prefix] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        message
    }
}

/// An address on which nothing listens.
fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/models/", listener.local_addr().unwrap())
}

#[test]
fn a_file_is_fetched_once() {
    let case = Case::new();
    case.succeeds(&[Answer::Whole], &[""]);
    assert_eq!(case.fetch(&dead_address()).unwrap(), case.target(), "the cache is used without a network");
    Case::new().succeeds(&[Answer::WithoutLength(usize::MAX)], &[""]);
}

#[test]
fn a_broken_download_is_resumed() {
    Case::new().succeeds(&[Answer::Truncated(1000), Answer::Whole], &["", "bytes=1000-"]);
    let script = [Answer::Truncated(1000), Answer::Truncated(70_000), Answer::Whole];
    Case::new().succeeds(&script, &["", "bytes=1000-", "bytes=71000-"]);
    Case::new().succeeds(&[Answer::Truncated(1000), Answer::IgnoringRange], &["", "bytes=1000-"]);
    // Also by a later call.
    let case = Case::new();
    let script = [Answer::Truncated(100), Answer::Truncated(0), Answer::Truncated(200)];
    let message = case.fails(&script, &["", "bytes=100-", "bytes=100-"]);
    assert!(message.contains("gave up after 3 attempts"), "{message}");
    assert!(message.contains("broken off after 300 of 300000 bytes"), "{message}");
    case.succeeds(&[Answer::Whole], &["bytes=300-"]);
}

#[test]
fn a_stalled_server_is_left() {
    Case::new().succeeds(&[Answer::Stalled(5000), Answer::Whole], &["", "bytes=5000-"]);
    Case::new().succeeds(&[Answer::Silent, Answer::Whole], &["", ""]);
    let case = Case::new();
    let message =
        case.fails(&[Answer::Stalled(10), Answer::Silent, Answer::Stalled(0)], &["", "bytes=10-", "bytes=10-"]);
    assert!(message.contains("timeout"), "{message}");
    assert_eq!(std::fs::read(case.part()).unwrap(), case.content[..10]);
}

#[test]
fn a_corrupt_file_is_deleted_and_reported() {
    let case = Case::new();
    let message = case.fails(&[Answer::Corrupt], &[""]);
    assert!(message.contains("is corrupt and was deleted: its SHA-256 begins with"), "{message}");
    assert!(!case.part().exists());
    // A server that does not say the length, and breaks off: only the checksum can tell.
    let case = Case::new();
    assert!(case.fails(&[Answer::WithoutLength(1000)], &[""]).contains("is corrupt"));
    assert!(!case.part().exists());
}

#[test]
fn a_bad_part_starts_over() {
    let case = Case::new();
    case.put(&case.part(), b"what another server sent");
    case.succeeds(&[Answer::Whole, Answer::Whole], &["bytes=24-", ""]);

    let case = Case::new();
    case.put(&case.part(), &case.content[..50]);
    case.succeeds(&[Answer::WrongRange, Answer::Whole], &["bytes=50-", ""]);

    // Longer than the file, and exactly the file.
    let case = Case::new();
    case.put(&case.part(), &[case.content.as_slice(), b"more"].concat());
    case.succeeds(&[Answer::Whole, Answer::Whole], &["bytes=300004-", ""]);
    let case = Case::new();
    case.put(&case.part(), &case.content);
    case.succeeds(&[Answer::Whole], &["bytes=300000-"]);
}

#[test]
fn refusals_are_told_from_trouble() {
    for status in [404, 403, 410] {
        let message = Case::new().fails(&[Answer::Status(status), Answer::Whole], &[""]);
        assert!(message.contains(&format!("the server answers {status}")), "{message}");
    }
    Case::new().succeeds(&[Answer::Status(503), Answer::Status(429), Answer::Whole], &["", "", ""]);
    let message = Case::new().fails(&[Answer::Status(500), Answer::Status(500), Answer::Status(502)], &["", "", ""]);
    assert!(message.contains("gave up after 3 attempts") && message.contains("502"), "{message}");
}

#[test]
fn a_damaged_file_in_the_cache_is_replaced() {
    let case = Case::new();
    case.put(&case.target(), &case.content[..1234]);
    case.succeeds(&[Answer::Whole], &[""]);
    case.put(&case.target(), b"damaged again");
    assert!(case.fetch(&dead_address()).is_err());
    assert!(!case.target().exists(), "a damaged file must not be used by whoever comes next");
}

#[test]
fn without_a_network_the_message_says_what_to_do() {
    let case = Case::new();
    let address = dead_address();
    let message = format!("{:#}", case.fetch(&address).unwrap_err());
    let advice = format!(
        "cannot fetch the weights; to go on without a network, put {address}{NAME} at {} (its SHA-256 begins with {})",
        case.target().display(),
        case.prefix
    );
    assert!(message.starts_with(&advice), "{message}");
    assert!(!case.part().exists(), "nothing arrived, so nothing is to be resumed");
    assert!(message.contains("gave up after 3 attempts"), "{message}");
}

#[test]
fn a_cache_folder_that_cannot_be_made_is_named() {
    let case = Case::new();
    std::fs::write(case.cache(), b"a file in its place").unwrap();
    let message = format!("{:#}", case.fetch(&dead_address()).unwrap_err());
    assert!(message.contains(case.cache().to_str().unwrap()) && message.contains("ROENTGEN_CACHE"), "{message}");
}

#[test]
fn two_at_once_fetch_one_file() {
    let case = Case::new();
    // The first connection breaks, so that the second caller arrives while the first is at work.
    let server = Server::start(&case.content, &[Answer::Stalled(1000), Answer::Whole]);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| case.fetch(&server.address))).collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap().unwrap(), case.target());
        }
    });
    assert_eq!(server.ranges(), ["", "bytes=1000-"], "more than one caller downloaded");
    assert!(std::fs::read(case.target()).unwrap() == case.content);
}

#[test]
fn folder_and_address_come_from_the_environment() {
    let environment = |entries: &'static [(&'static str, &'static str)]| {
        move |name: &str| entries.iter().find(|(entry, _)| *entry == name).map(|(_, value)| OsString::from(value))
    };
    assert_eq!(base_address(environment(&[])), OFFICIAL_ADDRESS);
    assert_eq!(base_address(environment(&[("ROENTGEN_WEIGHTS_URL", "")])), OFFICIAL_ADDRESS);
    assert_eq!(base_address(environment(&[("ROENTGEN_WEIGHTS_URL", "http://mirror/w")])), "http://mirror/w");

    let folder = |entries| cache_folder_from(environment(entries)).unwrap();
    let all = &[("ROENTGEN_CACHE", "mine"), ("XDG_CACHE_HOME", "/caches"), ("HOME", "/home/a")];
    assert_eq!(folder(all), Path::new("mine"));
    let message = cache_folder_from(environment(&[("ROENTGEN_CACHE", "")])).unwrap_err().to_string();
    assert!(message.contains("ROENTGEN_CACHE"), "{message}");
    if cfg!(all(unix, not(target_os = "macos"))) {
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/caches"), ("HOME", "/home/a")]), Path::new("/caches/roentgen"));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "caches"), ("HOME", "/home/a")]), Path::new("/home/a/.cache/roentgen"));
    }
}
