//! `tidegate demo --calls` as its users try it: its two pages in a real browser, whose microphones beep.
//!
//! What is looked at is what the pages show: how the call stands, and by WebRTC's own statistics what came and how loud it was. The
//! browser's media devices are Chromium's fakes; all between them is real.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::presence::browser::Browser;
use crate::support::{binary, within};

/// A microphone that beeps, nobody who would have to allow it, and no question about the demo's certificate.
const FLAGS: [&str; 3] = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--ignore-certificate-errors",
];
/// How long the demo may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Where the pages are among the browser's.
const ALICE: u32 = 0;
const BOB: u32 = 1;

/// The demo, as a process.
struct Demo {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// All that it printed.
    said: Vec<String>,
    /// Tells nothing, and ends with its output.
    ended: std::sync::mpsc::Receiver<()>,
    /// Where it keeps its certificate and its secrets.
    folder: TempDir,
}

impl Demo {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary());
        let command = command.args(["demo", "--calls"]).stdin(Stdio::null());
        command.env("TMPDIR", folder.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel(1_000);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (at_end, ended) = std::sync::mpsc::sync_channel(0);
        std::thread::spawn(move || {
            let _at_end: std::sync::mpsc::SyncSender<()> = at_end;
            let mut lines = stdout.lines().map_while(Result::ok);
            while lines
                .next()
                .is_some_and(|line| sender.blocking_send(line).is_ok())
            {}
        });
        Self {
            child,
            lines,
            said: Vec::new(),
            ended,
            folder,
        }
    }

    /// Waits until it prints a line with that in it, and returns the line.
    async fn until(&mut self, words: &str) -> String {
        loop {
            let next = within(words, self.lines.recv()).await;
            let line = next.unwrap_or_else(|| panic!("no {words:?} in {:?}", self.said));
            self.said.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    async fn url(&mut self, name: &str) -> String {
        let line = self.until("https://").await;
        let url = line.split_whitespace().last().unwrap().to_owned();
        assert!(url.ends_with(name), "{line}");
        url
    }

    fn interrupt(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).ok();
    }

    /// Ends it as its users do: it sums up, and leaves nothing behind.
    async fn end(mut self, verdict: &str) {
        self.interrupt();
        self.until(verdict).await;
        within("the end", async {
            while self.lines.recv().await.is_some() {}
        })
        .await;
        assert!(self.child.wait().unwrap().success());
        let left = std::fs::read_dir(self.folder.path()).unwrap();
        assert_eq!(left.count(), 0);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // Killed only if it does not end by itself.
        self.interrupt();
        self.ended.recv_timeout(FAREWELL).ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Both pages, in one browser.
struct Pages(Browser);

impl Pages {
    async fn open(demo: &mut Demo) -> Self {
        let mut browser = Browser::start(&FLAGS).await;
        browser
            .does(json!({ "open": demo.url("/alice").await }))
            .await;
        browser
            .does(json!({ "new": true, "open": demo.url("/bob").await }))
            .await;
        Self(browser)
    }

    async fn click(&mut self, page: u32, selector: &str) {
        self.0.does(json!({ "turn": page })).await;
        self.0.does(json!({ "click": selector })).await;
    }

    /// Waits until a page's call stands so.
    async fn until_call(&mut self, page: u32, state: &str, words: &str) {
        self.0.does(json!({ "turn": page })).await;
        let shown = "[at('call').dataset.state, at('state').textContent, at('detail').textContent].join('|')";
        let told = json!(format!("{state}|{words}"));
        self.0.sees(&format!("{shown}.startsWith({told})")).await;
    }

    /// Waits until a page shows that of somebody.
    async fn until_shown(&mut self, page: u32, identity: &str, status: &str) {
        self.0.does(json!({ "turn": page })).await;
        let row = format!("#people li[data-identity='{identity}'] span");
        let shown = format!("document.querySelector({})?.textContent", json!(row));
        self.0.sees(&format!("{shown} === {}", json!(status))).await;
    }

    /// Waits until a page has heard and sent more than it has now, and something that was loud.
    async fn until_heard(&mut self, page: u32) {
        self.0.does(json!({ "turn": page })).await;
        let of = |what: &str| format!("Number(at('levels').dataset.{what})");
        let before = self
            .0
            .sees(&format!("[{}, {}]", of("sent"), of("received")))
            .await;
        let more = format!(
            "{} > {} + 2000 && {} > {} + 2000",
            of("sent"),
            before[0],
            of("received"),
            before[1]
        );
        self.0.sees(&more).await;
        self.0.sees("Number(at('own').dataset.peak) > 5").await;
        self.0.sees("Number(at('theirs').dataset.peak) > 5").await;
    }

    /// Waits until a page's link to the gate is so.
    async fn until_linked(&mut self, page: u32, state: &str) {
        self.0.does(json!({ "turn": page })).await;
        self.0
            .sees(&format!("at('link').dataset.state === '{state}'"))
            .await;
    }
}

// B6, B14, B21, B30: two pages see each other, talk by WebRTC, and hang up; a page that lost its socket comes back to its call.
#[tokio::test]
async fn the_demos_pages_call_each_other() {
    let mut demo = Demo::start();
    let mut pages = Pages::open(&mut demo).await;
    pages.until_shown(ALICE, "bob", "available").await;
    pages.until_shown(BOB, "alice", "available").await;

    pages.click(ALICE, "#people button").await;
    pages.until_call(BOB, "incoming", "alice calls|Enter").await;
    pages.until_call(ALICE, "ringing", "bob rings|").await;
    pages.click(BOB, "#answer").await;
    pages
        .until_call(BOB, "talking", "Talking to alice|0:")
        .await;
    pages
        .until_call(ALICE, "talking", "Talking to bob|0:")
        .await;
    pages.until_heard(ALICE).await;
    pages.until_heard(BOB).await;
    pages.until_shown(BOB, "alice", "busy, in call").await;

    // The voices do not pass the gate, so they go on while a page is away from it.
    pages
        .0
        .does(json!({ "turn": ALICE, "offline": true }))
        .await;
    pages.until_linked(ALICE, "lost").await;
    pages.until_heard(ALICE).await;
    pages.0.does(json!({ "offline": false })).await;
    pages.until_linked(ALICE, "on").await;
    pages.until_heard(BOB).await;
    pages
        .0
        .does(json!({ "turn": ALICE, "press": "Escape" }))
        .await;
    pages.until_call(ALICE, "idle", "No call|You hung up").await;
    pages
        .until_call(BOB, "idle", "No call|The call is over")
        .await;
    pages.until_shown(BOB, "alice", "available").await;

    pages.click(BOB, "#people button").await;
    pages.until_call(ALICE, "incoming", "bob calls|Enter").await;
    pages.click(ALICE, "#reject").await;
    pages.until_call(BOB, "idle", "No call|alice is busy").await;

    for words in [
        "alice calls bob",
        "bob rings",
        "bob answers",
        "they talked for",
        "bob calls alice",
        "nobody talked: busy",
    ] {
        demo.until(words).await;
    }
    demo.end("calls: 2, answered: 1").await;
}

// B11, R §5, 1: every window of somebody rings, and one answers; a page that is closed leaves its call.
#[tokio::test]
async fn of_the_demos_windows_one_answers_and_a_closed_one_hangs_up() {
    const SECOND: u32 = 2;
    let mut demo = Demo::start();
    let mut pages = Pages::open(&mut demo).await;
    let bob = demo.said.last().unwrap().split_whitespace().last();
    let bob = bob.unwrap().to_owned();
    pages.0.does(json!({ "new": true, "open": bob })).await;
    pages.until_linked(SECOND, "on").await;
    pages.until_shown(ALICE, "bob", "available").await;
    pages.click(ALICE, "#people button").await;
    pages.until_call(BOB, "incoming", "alice calls|Enter").await;
    pages
        .until_call(SECOND, "incoming", "alice calls|Enter")
        .await;
    pages
        .0
        .does(json!({ "turn": SECOND, "press": "Enter" }))
        .await;
    pages
        .until_call(SECOND, "talking", "Talking to alice|0:")
        .await;
    pages
        .until_call(BOB, "idle", "No call|Answered on another device")
        .await;
    pages.until_heard(SECOND).await;

    pages.0.does(json!({ "open": "about:blank" })).await;
    pages
        .until_call(ALICE, "idle", "No call|The call is over")
        .await;
    pages.until_shown(ALICE, "bob", "available").await;
    demo.until("they talked for").await;
    demo.end("calls: 1, answered: 1").await;
}
