//! A headless Chromium, spoken to over its own debugging pipe: no driver, no port, no crate.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const NAMES: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// A browser with one page open.
pub(crate) struct Browser {
    child: Child,
    to: RefCell<ChildStdin>,
    from: RefCell<BufReader<ChildStdout>>,
    session: Option<String>,
    last_id: Cell<u64>,
    events: RefCell<Vec<Value>>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// The browser that `CHROMIUM` names, or one in the `PATH`; `None` where there is none, which
    /// is said.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = find() else {
            println!("skipped: no Chromium (install one, or name it with CHROMIUM=/path/to/it)");
            return None;
        };
        let profile = tempfile::tempdir().expect("a temporary folder");
        // The pipe is the browser's third and fourth file; the shell moves ours there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let to = RefCell::new(child.stdin.take().expect("it is piped"));
        let from = RefCell::new(BufReader::new(child.stdout.take().expect("it is piped")));
        let (last_id, events) = (Cell::new(0), RefCell::default());
        let mut browser =
            Self { child, to, from, session: None, last_id, events, _profile: profile };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let targets = self.call("Target.getTargets", json!({}));
        let targets = targets["targetInfos"].as_array().expect("a list").clone();
        let page = targets.iter().find(|target| target["type"] == "page").expect("a page");
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", attach)["sessionId"].clone();
        self.session = session.as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Opens a file on a screen of this width, light or dark.
    pub(crate) fn open(&self, file: &Path, width: u32, scheme: &str) {
        let media = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": media }));
        let screen = json!({
            "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600
        });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({ "url": url }));
        while !self.happened("Page.loadEventFired") {
            let event = self.read();
            self.events.borrow_mut().push(event);
        }
        self.events.borrow_mut().retain(|event| event["method"] != "Page.loadEventFired");
    }

    /// The value of an expression on the page.
    #[track_caller]
    pub(crate) fn value(&self, expression: &str) -> Value {
        let arguments =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", arguments);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Moves the mouse to a place on the screen.
    pub(crate) fn point_at(&self, x: f64, y: f64) {
        let event = json!({ "type": "mouseMoved", "x": x, "y": y });
        self.call("Input.dispatchMouseEvent", event);
    }

    /// Addresses that the page asked for, its own and those within it (`data:`) left out.
    pub(crate) fn requests(&self) -> Vec<String> {
        let events = self.events.borrow();
        let sent = events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = sent.filter_map(|event| event["params"]["request"]["url"].as_str());
        urls.filter(|url| !url.starts_with("data:") && !url.ends_with("report.html"))
            .map(str::to_owned)
            .collect()
    }

    /// What the page wrote to the console or failed at.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let of = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        let events = self.events.borrow();
        let found = events.iter().filter(|e| of.iter().any(|method| e["method"] == *method));
        found.map(Value::to_string).collect()
    }

    fn happened(&self, method: &str) -> bool {
        self.events.borrow().iter().any(|event| event["method"] == method)
    }

    #[track_caller]
    fn call(&self, method: &str, params: Value) -> Value {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut to = self.to.borrow_mut();
        to.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        to.flush().expect("the browser listens");
        loop {
            let answer = self.read();
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.borrow_mut().push(answer);
        }
    }

    fn read(&self) -> Value {
        let mut message = Vec::new();
        self.from.borrow_mut().read_until(0, &mut message).expect("the browser answers");
        assert_eq!(message.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&message).expect("JSON")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Whether it was still there does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}
