//! What the tests share: a tiny model, servers in this process, and a client that sends whatever bytes a test wants.

use roentgen_cpu::CpuEngine;
use roentgen_infer::{ModelDescription, Preprocessing, write_model};
use roentgen_nn::{Head, ParameterSet, ParameterStore, architecture, initialise};
use roentgen_run::{Config, RunDirectory};
use roentgen_serve::{Handle, Limits, ModelSource, Server, Settings, Token};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// The least side at which ResNet-18 has a map of more than one place.
pub const IMAGE_SIZE: usize = 64;
pub const CLASSES: [&str; 2] = ["infected", "normal"];
pub const TOKEN: &str = "a-token-for-the-tests";

/// Writes a finished run whose weights are drawn from a seed.
pub fn write_run(folder: &Path, seed: u64) {
    let head = Head::Stock { classes: CLASSES.len() };
    let network = architecture::build("resnet18", IMAGE_SIZE, head).expect("a registered architecture");
    let mut store = ParameterStore::new(&network);
    initialise(&network, &mut store, seed, |_| true);
    let description = ModelDescription {
        format_version: roentgen_run::FORMAT_VERSION,
        architecture: "resnet18".into(),
        classes: CLASSES.map(Into::into).to_vec(),
        hidden: None,
        dropout: None,
        preprocessing: Preprocessing::imagenet(IMAGE_SIZE),
        unfreeze: vec!["all".into()],
        frozen_batch_norm: "eval".into(),
    };
    let run = RunDirectory::new(folder);
    if !folder.exists() {
        run.create(&Config::default()).expect("the folder can be made");
    }
    write_model(&run.model_file(), &description, &store, ParameterSet::Live).expect("the model can be written");
}

/// A run that tests only read.
pub fn run() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        // Cargo's own folder for tests: a static value would never delete a temporary one.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("served");
        let _ = std::fs::remove_dir_all(&folder);
        write_run(&folder, 1);
        folder
    })
}

/// How the tests serve: a free port, and limits that a test may tighten.
pub fn settings() -> Settings {
    Settings {
        address: "127.0.0.1:0".parse().expect("an address"),
        token: None,
        allow_without_token: false,
        threshold: None,
        batch_wait: Duration::from_millis(3),
        precision: None,
        exact: false,
        memory_limit_bytes: None,
        limits: Limits { body_bytes: 4 << 20, pixels: 1_000_000, images: 4, ..Limits::default() },
    }
}

pub fn with_token(settings: Settings) -> Settings {
    Settings { token: Token::new(TOKEN), ..settings }
}

/// A server on a thread; it ends with the test.
pub struct Serving {
    pub address: SocketAddr,
    pub handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn of(runs: &[(&str, &Path)], settings: Settings) -> Serving {
        let engine = Arc::new(CpuEngine::new(2).expect("two threads"));
        let sources =
            runs.iter().map(|(name, path)| ModelSource { name: (*name).into(), path: (*path).into() }).collect();
        let server = Server::bind(engine, sources, settings).expect("the server starts");
        let (address, handle) = (server.address(), server.handle());
        let thread = Some(std::thread::spawn(move || server.run().expect("the server runs")));
        Serving { address, handle, thread }
    }

    pub fn start(settings: Settings) -> Serving {
        Serving::of(&[("served", run())], settings)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket takes a time limit");
        stream
    }

    /// Sends bytes as they are and reads one answer.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that refuses may do so before it has read all.
        let _ = stream.write_all(bytes);
        Answer::read(&mut stream).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub fn get_with(&self, path: &str, header: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.raw(&request(path, &[("Content-Type", content_type)], body))
    }

    /// A number of `/metrics`, by all that stands before it on its line.
    pub fn counted(&self, name: &str) -> f64 {
        value(&self.get("/metrics").text(), name)
    }

    /// Ends it, and fails where a request holds it up.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end();
    }
}

/// A number on the page of `/metrics`, so that several of one moment can be compared.
pub fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not in\n{metrics}"))
}

/// The bytes of a POST.
pub fn request(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| bytes += &format!("{name}: {value}\r\n"));
    bytes += "Connection: close\r\n\r\n";
    [bytes.as_bytes(), body].concat()
}

/// A form with files, and its content type.
pub fn form(files: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!("--edge\r\nContent-Disposition: form-data; name=\"images\"; filename=\"{name}\"\r\n\r\n");
        body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    body.extend(b"--edge--\r\n");
    ("multipart/form-data; boundary=edge".into(), body)
}

/// An answer with a body of a length that it says.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The next answer of a connection; `None` where it is closed before.
    pub fn read(stream: &mut impl Read) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("heads are text");
        let status = head.split(' ').nth(1)?.parse().expect("a status");
        let mut answer = Answer { status, head, body: Vec::new() };
        answer.body = vec![0; answer.header("content-length").map_or(0, |length| length.parse().expect("a length"))];
        stream.read_exact(&mut answer.body).expect("the whole body");
        Some(answer)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Went well.
    #[track_caller]
    pub fn succeeds(self) -> Answer {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }

    /// Was refused in JSON, and what was found and expected holds each of the words.
    #[track_caller]
    pub fn refused_with(self, status: u16, words: &[&str]) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        let error = &self.json()["error"];
        assert_eq!(error["status"], status);
        let said = format!("{} {}", error["found"].as_str().unwrap(), error["expected"].as_str().unwrap());
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        self
    }
}

/// A grey PNG of a disc on a patterned ground.
pub fn disc(side: usize, variant: usize) -> Vec<u8> {
    let middle = (side / 2 + variant) as i64;
    let pixels: Vec<u8> = (0..side * side)
        .map(|i| {
            let (x, y) = ((i % side) as i64 - middle, (i / side) as i64 - middle);
            let inside = x * x + y * y < (side * side / 9) as i64;
            (90 + if inside { 100 } else { 0 } + (i * 31 + variant * 17) % 23) as u8
        })
        .collect();
    png(side as u32, side as u32, &pixels)
}

/// A grey PNG of 8 bits.
pub fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(pixels)).expect("a valid image");
    file
}
