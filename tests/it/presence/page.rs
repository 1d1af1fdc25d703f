//! A page without any SDK, in a real browser: a contact list that is alive.
//!
//! nginx serves `tests/presence/page` on two origins, of which the gate allows one; Chromium is led by `tests/presence/browse.js`. The test
//! makes devices come, change and go at the gate, and waits for what the page then shows.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::browser::Browser;
use super::desk::{Socket, ask, basic, gate, item, seeing, token};
use super::road::Road;
use crate::support::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::tools::{NGINX, Running};

/// A browser on the page, and all that is behind it.
struct Desk {
    browser: Browser,
    gate: Sidecar,
    /// Between the page and the gate.
    road: Road,
    /// Where the page comes from: an origin that is allowed, and one that is not.
    origins: [Road; 2],
    _nginx: Running,
    _directory: TempDir,
}

impl Browser {
    /// Waits until the page shows that of an identity.
    async fn until_shown(&mut self, identity: &str, shown: &str) {
        let row = format!("#contacts tr[data-identity='{identity}'] td");
        let cells = format!("[...document.querySelectorAll(\"{row}\")]");
        let text = format!("{cells}.map((cell) => cell.textContent).join('|')");
        self.until(&format!(
            "{text} === {}",
            json!(format!("{identity}|{shown}"))
        ))
        .await;
    }

    /// Waits until its link to the gate is so.
    async fn until_linked(&mut self, state: &str) {
        let link = "document.getElementById('link').dataset.state";
        self.until(&format!("{link} === '{state}'")).await;
    }

    /// Signs in on the page that is open.
    async fn sign_in(&mut self, road: &Road, token: &str) {
        let gate = format!("ws://{}", road.address);
        for (field, text) in [("#gate", &*gate), ("#token", token), ("#list", "team")] {
            self.does(json!({ "type": [field, text] })).await;
        }
        self.does(json!({ "click": "#sign-in button" })).await;
    }
}

impl Desk {
    /// With the contact list `team` of Alice, who is not signed in.
    async fn with_contacts(contacts: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (nginx, address) = nginx(directory.path()).await;
        let origins = [Road::to(&address).await, Road::to(&address).await];
        let allowed = format!("  allowed_origins: [\"http://{}\"]\n", origins[0].address);
        let gate = gate(&allowed).await;
        let desk = Self {
            browser: Browser::start(&[]).await,
            road: Road::to(&gate.address).await,
            gate,
            origins,
            _nginx: nginx,
            _directory: directory,
        };
        desk.put_contacts(contacts).await;
        desk
    }

    async fn put_contacts(&self, contacts: &[&str]) {
        let list = json!({ "identities": contacts }).to_string();
        let path = "/v1/contacts/team?identity=alice";
        let answer = ask(&self.gate, &basic(), "PUT", path, &list).await;
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    }

    /// The page from that origin, with Alice signed in.
    async fn open(&mut self, origin: usize) {
        let page = format!("http://{}/", self.origins[origin].address);
        self.browser.does(json!({ "open": page })).await;
        self.browser.sign_in(&self.road, &seeing("alice")).await;
    }

    async fn device(&self, identity: &str) -> Socket {
        let (socket, _) = Socket::hello(&self.gate, &token(identity, None), "desk").await;
        socket
    }
}

/// nginx with the page, as one process of this user.
async fn nginx(directory: &Path) -> (Running, String) {
    let shown = directory.display();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/presence/page");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {shown}/{name};"))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {shown}/nginx.pid; error_log stderr error; events {{}}\n\
         http {{ access_log off; {temporary}\n\
         types {{ text/html html; text/css css; text/javascript js; }}\n\
         server {{ listen unix:{shown}/nginx.sock; root {}; }} }}\n",
        page.display()
    );
    let config = directory.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let running = NGINX.spawn(&["-p", &shown.to_string(), "-c", &config]);
    let socket = directory.join("nginx.sock");
    eventually("nginx", async || socket.exists()).await;
    (running, format!("unix:{}", socket.display()))
}

// B37, B17: the page shows the list once, of these and no others; then changes, as devices come, change and go.
#[tokio::test]
async fn a_page_shows_its_contacts_as_they_come_and_go() {
    let mut desk = Desk::with_contacts(&["bob", "carol", "dave"]).await;
    let mallory = desk.device("mallory").await;
    let mut carol = desk.device("carol").await;
    desk.open(0).await;
    for (who, shown) in [
        ("bob", "offline|||no"),
        ("carol", "available|||yes"),
        ("dave", "offline|||no"),
    ] {
        desk.browser.until_shown(who, shown).await;
    }
    let count = "document.querySelectorAll('#contacts tr').length";
    desk.browser.until(&format!("{count} === 3")).await;
    let own = item(&desk.gate, "alice").await["devices"][0].take();
    assert!(own["device"].as_str().unwrap().starts_with("page-"));
    assert_eq!(
        (&own["app"], &own["ringable"]),
        (&json!("contacts"), &json!(false))
    );

    let mut bob = desk.device("bob").await;
    desk.browser.until_shown("bob", "available|||yes").await;
    // What others say of themselves is text, whatever it looks like.
    let said =
        json!({ "status": "away", "reason": "away_long", "text": "<b>back</b> on \"Monday\"" });
    bob.say("presence.set", said).await;
    let text = "away|away_long|<b>back</b> on \"Monday\"|no";
    desk.browser.until_shown("bob", text).await;
    // B11: one that only reports is shown, and never rung.
    let report = r#"{"identity":"dave","device":"watch","status":"do_not_disturb"}"#;
    let answer = ask(&desk.gate, &basic(), "PUT", "/v1/presence", report).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    desk.browser
        .until_shown("dave", "do not disturb|||no")
        .await;
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/presence-page.png");
    desk.browser
        .does(json!({ "screenshot": picture.display().to_string() }))
        .await;

    carol
        .say(
            "presence.set",
            json!({ "status": "busy", "reason": "in_call" }),
        )
        .await;
    desk.browser.until_shown("carol", "busy|in_call||no").await;
    carol.close(1000).await;
    desk.browser.until_shown("carol", "offline|||no").await;
    drop(mallory);
    assert_eq!(
        desk.browser.until("counted.snapshots").await,
        1,
        "then changes only"
    );

    // B38: signed out, the page is gone at once.
    desk.browser.does(json!({ "click": "#leave" })).await;
    eventually("the page is gone", async || {
        item(&desk.gate, "alice").await["device_count"] == 0
    })
    .await;
}

// B24: what is changed on the list elsewhere shows on the owner's page; B22: a burst of changes is few messages.
#[tokio::test]
async fn a_page_follows_its_list_and_bursts_are_consolidated() {
    let mut desk = Desk::with_contacts(&["bob", "carol"]).await;
    desk.open(0).await;
    desk.browser.until_shown("bob", "offline|||no").await;
    desk.put_contacts(&["dave", "carol", "erin"]).await;
    desk.browser.until_shown("erin", "offline|||no").await;
    desk.browser.until_shown("dave", "offline|||no").await;
    let caption = "document.getElementById('caption').textContent === 'team: 3'";
    desk.browser.until(caption).await;
    let bob = "!document.querySelector('[data-identity=bob]')";
    desk.browser.until(bob).await;

    let mut devices = Vec::new();
    for identity in ["carol", "dave", "erin"] {
        devices.push(desk.device(identity).await);
        desk.browser.until_shown(identity, "available|||yes").await;
    }
    let before = desk.browser.until("[counted.deltas]").await[0]
        .as_u64()
        .unwrap();
    let naive = 3 * 20;
    for turn in 0..naive / 3 {
        for device in &mut devices {
            let status = ["busy", "away"][turn % 2];
            device
                .say(
                    "presence.set",
                    json!({ "status": status, "text": format!("turn {turn}") }),
                )
                .await;
        }
    }
    for identity in ["carol", "dave", "erin"] {
        desk.browser.until_shown(identity, "away||turn 19|no").await;
    }
    let after = desk.browser.until("[counted.deltas]").await[0]
        .as_u64()
        .unwrap();
    // A tenth of a second's changes are one message; sixty changes of three take some tenths on a busy machine.
    assert!(
        after - before < 20,
        "{} messages for {naive} changes",
        after - before
    );
}

// B38: a page whose connection breaks comes back by itself to its own device, and shows what it missed.
#[tokio::test]
async fn a_page_comes_back_where_it_was() {
    let mut desk = Desk::with_contacts(&["bob"]).await;
    let mut bob = desk.device("bob").await;
    desk.open(0).await;
    desk.browser.until_shown("bob", "available|||yes").await;
    let own = item(&desk.gate, "alice").await["devices"][0]["device"].take();
    desk.road.cut();
    bob.say("presence.set", json!({ "status": "busy" })).await;
    desk.browser
        .until("document.getElementById('link').dataset.resumed === 'true'")
        .await;
    desk.browser.until_shown("bob", "busy|||no").await;
    let shown = item(&desk.gate, "alice").await;
    assert_eq!(shown["device_count"], 1);
    assert_eq!(shown["devices"][0]["device"], own);
}

// Any page may be stopped from opening sockets by where it comes from.
#[tokio::test]
async fn a_page_of_another_origin_gets_nothing() {
    let mut desk = Desk::with_contacts(&["bob"]).await;
    desk.open(1).await;
    desk.browser.until_linked("lost").await;
    assert_eq!(desk.browser.until("[counted.messages]").await, json!([0]));
    assert_eq!(item(&desk.gate, "alice").await["device_count"], 0);
    // The same page from where it may come from.
    desk.open(0).await;
    desk.browser.until_linked("on").await;
    desk.browser.until_shown("bob", "offline|||no").await;
}
