//! A Chromium without a window, driven over the DevTools protocol.
//!
//! The protocol goes over a pair of pipes (`--remote-debugging-pipe`): messages of JSON that end with a zero byte. So
//! the tests need neither a WebSocket nor a driver beside the browser.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a page may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The browser's program, from `ROENTGEN_CHROMIUM` or where Linux distributions put it.
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os("ROENTGEN_CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    named.into_iter().chain(usual).find(|path| path.is_file())
}

/// A browser with one tab.
pub struct Chromium {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// What the tab reported meanwhile: requests, errors, exceptions.
    pub events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    pub fn start(program: &Path) -> Chromium {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        // A shell hands the pipes over as the descriptors 3 and 4, which the browser reads and writes.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null", "sh"])
            .arg(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let to = process.stdin.take().expect("a pipe was asked for");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        let (send, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(message) = serde_json::from_slice(&std::mem::take(&mut message)) else { return };
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Chromium { process, to, from, calls: 0, session: None, events: Vec::new(), _profile: profile };
        let tab = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": tab, "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol and returns its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut message = self.from.recv_timeout(PATIENCE).expect("the browser answers");
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    /// The value of an expression in the page; promises are awaited.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", wanted);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != true {
            let text = self.value("document.body.innerText");
            assert!(Instant::now() < until, "never true: {expression}; the page says: {text}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.wait_for(&format!("location.href === {} && document.readyState === 'complete'", json!(url)));
    }

    /// Presses a key, as `KeyboardEvent.key` names it.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Drops files on the middle of an element.
    #[track_caller]
    pub fn drop_files(&mut self, selector: &str, files: &[PathBuf]) {
        let middle = format!(
            "(() => {{ const box = document.querySelector({}).getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        let at = self.value(&middle);
        let data = json!({ "items": [], "files": files, "dragOperationsMask": 1 });
        for kind in ["dragEnter", "dragOver", "drop"] {
            self.call("Input.dispatchDragEvent", json!({ "type": kind, "x": at[0], "y": at[1], "data": data }));
        }
    }

    /// Chooses files in a field.
    #[track_caller]
    pub fn choose_files(&mut self, selector: &str, files: &[PathBuf]) {
        let element = self
            .call("Runtime.evaluate", json!({ "expression": format!("document.querySelector({})", json!(selector)) }));
        let object = element["result"]["objectId"].clone();
        self.call("DOM.setFileInputFiles", json!({ "files": files, "objectId": object }));
    }

    /// Gives the page a width in pixels, and a height.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Writes the whole page as PNG.
    pub fn screenshot(&mut self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            picture["data"].as_str().expect("a picture"),
        );
        std::fs::write(file, bytes.expect("base64")).expect("the folder is there");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
