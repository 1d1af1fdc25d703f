//! `tidegate top` beside a running gate: in a real terminal, and as a page for scripts.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cli::tidegate;
use crate::support::client::by;
use crate::support::origin::{held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::tools::{TMUX, said};
use crate::support::{binary, eventually};

const CONFIG: &str = "default_upstream: api\n\
                      limits: [{ name: account, per: [account], max: 2 }]\n";

/// A terminal of 80 columns and 24 lines with a shell in it.
struct Screen {
    directory: TempDir,
}

impl Screen {
    async fn open() -> Self {
        TMUX.must_be_there();
        let directory = tempfile::tempdir().unwrap();
        let screen = Self { directory };
        let size = ["-x", "80", "-y", "24"];
        let start = ["-f", "/dev/null", "new-session", "-d"];
        screen.tmux(&[&start[..], &size, &["sh"]].concat()).await;
        screen
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.directory.path().join("tmux").display().to_string();
        let output = TMUX
            .run(&[&["-u", "-S", &socket], arguments].concat())
            .await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    async fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat()).await;
    }

    /// Waits until all of these are on the screen.
    async fn shows(&self, words: &[&str]) -> String {
        let mut text = String::new();
        let what = format!("{words:?} on the screen");
        eventually(&what, async || {
            text = self.tmux(&["capture-pane", "-p"]).await;
            words.iter().all(|word| text.contains(word))
        })
        .await;
        text
    }

    /// Starts it in the shell, which then says how it ended.
    async fn start(&self, gate: &Sidecar) {
        let (program, admin) = (binary().display().to_string(), &gate.admin);
        let line = format!("clear; {program} top --every 200ms --admin {admin}; echo ended=$?");
        self.press(&[&line, "Enter"]).await;
    }

    /// Waits until the shell is back, and asserts that its terminal is as it was.
    async fn is_given_back(&self) {
        self.shows(&["ended=0"]).await;
        let modes = self
            .tmux(&["display", "-p", "#{alternate_on} #{cursor_flag}"])
            .await;
        assert_eq!(modes.trim(), "0 1", "no other screen, and a cursor");
        self.press(&["clear; stty -a; echo told", "Enter"]).await;
        let settings = self.shows(&["\ntold"]).await;
        for on in [" icanon", " isig", " echo ", " icrnl", " opost"] {
            assert!(
                settings.replace('\n', " ").contains(on),
                "{on} in {settings}"
            );
        }
    }

    /// The program that runs in the shell.
    async fn program(&self) -> Pid {
        let shell = self.tmux(&["display", "-p", "#{pane_pid}"]).await;
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        let child = children
            .split_whitespace()
            .next()
            .and_then(|id| id.parse().ok());
        child
            .and_then(Pid::from_raw)
            .expect("a program in the shell")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let socket = self.directory.path().join("tmux");
        let mut tmux = std::process::Command::new("tmux");
        // It ends with its last shell, if not so.
        tmux.arg("-S").arg(socket).arg("kill-server").output().ok();
    }
}

// CLI: an operator sees who is full, ends a request, and has the terminal back.
#[tokio::test]
async fn a_request_is_cancelled_from_a_terminal() {
    let origin = held_origin();
    let gate = sidecar(CONFIG).before(&origin).start().await;
    let mut held = Vec::new();
    for path in ["/held/1", "/held/2"] {
        let mut client = gate.connect().await;
        client.send_get(path, &by("noisy")).await;
        held.push(client);
        origin.until_in_flight(held.len()).await;
    }
    assert_eq!(gate.get("/refused", "noisy").await.status, 429);
    let screen = Screen::open().await;
    screen.start(&gate).await;
    screen
        .shows(&["* limits", "2/2", "noisy", "FULL", "/held/1", "healthy"])
        .await;
    // The oldest stands first.
    screen.press(&["Tab", "Tab", "Tab", "j"]).await;
    let text = screen.shows(&["* requests", "> noisy"]).await;
    let selected = text.lines().find(|line| line.starts_with("> noisy"));
    assert!(
        selected.is_some_and(|line| line.contains("/held/1")),
        "{text}"
    );
    screen.press(&["c"]).await;
    screen.shows(&["cancel GET /held/1 of noisy? y/n"]).await;
    assert_eq!(gate.limit("account").await["in_flight"], 2);
    screen.press(&["y"]).await;
    screen
        .shows(&["cancelled GET /held/1 of noisy", "1/2"])
        .await;
    let answer = held[0].response().await;
    assert_eq!(
        (answer.status, answer.field("x-admission-reason")),
        (503, "cancelled")
    );
    screen.press(&["q"]).await;
    screen.is_given_back().await;
    origin.open();
    assert_eq!(held[1].response().await.status, 200);
}

// CLI: an override typed in a terminal is in force, and ends from there.
#[tokio::test]
async fn an_override_is_typed_in_a_terminal() {
    let origin = origin();
    let gate = sidecar(CONFIG).before(&origin).start().await;
    assert_eq!(gate.get("/", "noisy").await.status, 200);
    let screen = Screen::open().await;
    screen.start(&gate).await;
    screen.shows(&["* limits", "account"]).await;
    screen.press(&["j", "o"]).await;
    screen.shows(&["max of account"]).await;
    screen
        .press(&["0", "Enter", "Enter", "noisy", "Enter"])
        .await;
    screen.shows(&["max 0 noisy, 9m5"]).await;
    assert_eq!(gate.get("/", "noisy").await.status, 429);
    assert_eq!(gate.get("/", "quiet").await.status, 200);
    screen.press(&["x"]).await;
    screen
        .shows(&["end the override of account for noisy? y/n"])
        .await;
    screen.press(&["y"]).await;
    screen
        .shows(&["the override of account for noisy is ended"])
        .await;
    assert_eq!(gate.get("/", "noisy").await.status, 200);
    screen.press(&["C-c"]).await;
    screen.is_given_back().await;
}

// CLI: a gate that goes away is waited for and said to be away; a signal gives the terminal back too.
#[tokio::test]
async fn a_gate_that_goes_away_is_waited_for() {
    let origin = origin();
    let gate = sidecar("admin: { address: \"unix:$DIR/admin.sock\" }").before(&origin);
    let gate = gate.start().await;
    let screen = Screen::open().await;
    screen.start(&gate).await;
    screen.shows(&["in flight 0", "healthy"]).await;
    let socket = gate.directory().join("admin.sock");
    let aside = gate.directory().join("aside.sock");
    fs::rename(&socket, &aside).unwrap();
    screen
        .shows(&["STALE, ", "no gate can be reached", "healthy"])
        .await;
    fs::rename(&aside, &socket).unwrap();
    eventually("numbers of now", async || {
        !screen.shows(&[]).await.contains("STALE")
    })
    .await;
    kill_process(screen.program().await, Signal::TERM).unwrap();
    screen.is_given_back().await;
}

// CLI: without a terminal it is one page of plain text, and a failure where there is no gate.
#[tokio::test]
async fn a_script_gets_one_plain_page() {
    let origin = held_origin();
    let gate = sidecar(CONFIG).before(&origin).start().await;
    let mut client = gate.connect().await;
    client.send_get("/held/%1b[31m", &by("noisy")).await;
    origin.until_in_flight(1).await;
    for once in [&["--once"][..], &[]] {
        let top = ["top", "--every", "200ms", "--admin", &gate.admin];
        let ended = tidegate(&[&top[..], once].concat()).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        for word in [
            "running",
            "account",
            "1/2",
            "noisy",
            "forwarded",
            "/held/",
            "healthy",
        ] {
            assert!(ended.stdout.contains(word), "{word} in\n{}", ended.stdout);
        }
        assert!(
            ended.stdout.is_ascii() && !ended.stdout.contains('\u{1b}'),
            "{ended:?}"
        );
    }
    let absent = "unix:/nonexistent/admin.sock";
    let ended = tidegate(&["top", "--once", "--admin", absent]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("no gate") && ended.stderr.contains("--admin"),
        "{ended:?}"
    );
    let ended = tidegate(&["top", "--every", "1ms"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}
