//! The live page in a real browser: an operator sees what the gate does and why, and changes it.
//!
//! Chromium is led by `tests/presence/browse.js`. What the page looks like is written to `target/screenshots`, for people to look at.

use std::path::Path;

use serde_json::json;

use crate::presence::browser::Browser;
use crate::presence::road::Road;
use crate::support::client::{Connection, by};
use crate::support::origin::{Origin, held_origin};
use crate::support::sidecar::{Sidecar, sidecar};

const LIMITS: &str = "limits:\n\
                      - { name: account, per: [account], max: 3, when_full: [{ queue: { length: 2, timeout: 60s } }] }\n\
                      - { name: whole, per: [], max: 20 }\n\
                      - { name: tight, per: [account], max: 1, mode: shadow }\n\
                      candidates: { half: { limits: [{ name: account, per: [account], max: 1 }] } }\n";
/// An account that would be markup, if anything on the page were.
const HOSTILE: &str = "<img-src=x>";

/// The page on a gate whose origin holds everything.
struct Desk {
    browser: Browser,
    gate: Sidecar,
    origin: Origin,
    clients: Vec<Connection>,
}

impl Desk {
    async fn open(yaml: &str) -> Self {
        let origin = held_origin();
        let plan = sidecar(yaml).env("ADMIN_SECRET", "open-sesame-123");
        let gate = plan.before(&origin).start().await;
        let mut browser = Browser::start(&[]).await;
        let page = format!("http://{}/", gate.admin);
        browser
            .does(json!({ "look": { "width": 1280, "height": 900, "dark": false } }))
            .await;
        browser.does(json!({ "open": page })).await;
        Self {
            browser,
            gate,
            origin,
            clients: Vec::new(),
        }
    }

    /// Some more requests of an account, which the origin holds as far as they have a place.
    async fn ask(&mut self, account: &str, count: usize) {
        for index in 0..count {
            let mut client = self.gate.connect().await;
            client.send_get(&format!("/of/{index}"), &by(account)).await;
            self.clients.push(client);
        }
    }

    /// Waits until an element's text has these words.
    async fn until_says(&mut self, selector: &str, words: &str) {
        let text = format!(
            "document.querySelector({})?.textContent ?? ''",
            json!(selector)
        );
        self.browser
            .sees(&format!("({text}).includes({})", json!(words)))
            .await;
    }

    async fn click(&mut self, selector: &str) {
        self.browser.does(json!({ "click": selector })).await;
    }

    async fn picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        self.browser
            .does(json!({ "screenshot": path.display().to_string() }))
            .await;
        assert!(std::fs::metadata(path).unwrap().len() > 10_000);
    }

    /// Waits until the bar of a limit is filled so far that this holds of `part`, of 0 to 1.
    async fn until_filled(&mut self, limit: &str, holds: &str) {
        let bar = format!("document.querySelector('[data-limit={limit}] .bar')");
        let width = "getBoundingClientRect().width";
        let part = format!("{bar}.querySelector('.fill').{width} / {bar}.{width}");
        self.browser
            .sees(&format!("((part) => {holds})({part})"))
            .await;
    }
}

/// The figure beside the bar of a limit.
fn figure(limit: &str) -> String {
    format!("[data-limit={limit}] [data-figure=use]")
}

// A22, A28, G10: load starts, an account fills its limit, and the page says who, how full and since when; its oldest request is ended from the
// page, and its client is told.
#[tokio::test]
async fn an_operator_sees_who_holds_the_places_and_ends_the_oldest() {
    let mut desk = Desk::open(LIMITS).await;
    desk.until_says("#headline", "Nothing is in flight").await;
    desk.until_says("#link", "live").await;
    desk.ask("acme", 1).await;
    desk.until_says(&figure("account"), "1 of 3").await;
    desk.ask("noisy", 7).await;
    desk.until_says(&figure("account"), "3 of 3").await;
    desk.until_says("[data-limit=account] .who", "noisy").await;
    desk.until_says("#headline", "noisy fills its 3 places of account")
        .await;
    desk.browser
        .sees("document.querySelector('[data-limit=account] .bar').getAttribute('aria-valuenow') === '3'")
        .await;
    desk.until_filled("account", "part > 0.999").await;
    desk.until_filled("whole", "part > 0.1 && part < 0.5").await;
    // What is on paper is marked so, and the last minutes are drawn.
    desk.until_says("[data-limit=tight] .tag", "shadow").await;
    desk.until_says("#paper-rows", "half").await;
    desk.browser
        .sees("document.querySelector('[data-limit=account] .spark .line').getAttribute('d').length > 10")
        .await;
    desk.until_says("#accounts", "noisy").await;
    desk.until_says("#decisions", "queue_full").await;
    desk.until_says("#waiting", "/of/").await;

    // Narrowed to one account, and back.
    desk.click("#accounts button[title='Show only noisy']")
        .await;
    desk.until_says("#filter-account", "noisy").await;
    let only = "(() => { const rows = [...document.querySelectorAll('#holding tr')]; \
                return rows.length === 3 && rows.every((row) => row.textContent.includes('noisy')); })()";
    desk.browser.sees(only).await;
    desk.click("#accounts button[title='Show only acme']").await;
    desk.until_says("#filter-account", "acme").await;
    desk.until_says("[data-limit=account] .who", "acme").await;
    desk.until_says(&figure("account"), "1 of 3").await;
    desk.click("#filter-clear").await;
    desk.browser
        .sees("document.querySelectorAll('#holding tr').length === 4")
        .await;

    // The oldest is the first row; ending it takes two presses.
    desk.until_says("#holding tr:first-child", "acme").await;
    desk.click("#holding tr:first-child td.action button").await;
    desk.until_says("#holding tr:first-child .asked", "503")
        .await;
    desk.click("#holding tr:first-child .danger").await;
    let told = desk.clients[0].response().await;
    assert_eq!(
        (told.status, told.field("x-admission-reason")),
        (503, "cancelled")
    );
    desk.until_says("#holding", "cancelled").await;
    desk.until_says("#accounts", "3 · 3").await;
    desk.gate
        .wait_until("its place is free", |status| status["in_flight"] == 3)
        .await;
    desk.origin.open();
    desk.until_says("#headline", "Nothing is in flight").await;
}

// A11: an override is set from the page, changes the number at once and serves who waits; it is shown with what is left of it, and ended.
#[tokio::test]
async fn an_operator_overrides_a_limit_for_a_while() {
    let mut desk = Desk::open(LIMITS).await;
    desk.ask("noisy", 4).await;
    desk.until_says(&figure("account"), "3 of 3").await;
    desk.until_says("#waiting", "noisy").await;
    desk.click("[data-limit=account] .of-keys summary").await;
    desk.click("[data-limit=account] .key-row button.quiet")
        .await;
    desk.browser.sees("document.querySelector('#override').open && document.querySelector('#override-name').value === 'noisy'").await;
    desk.browser
        .does(json!({ "type": ["#override-max", "5"] }))
        .await;
    // What cannot be is said where it was asked for.
    desk.browser
        .does(json!({ "type": ["#override-for", "soon"] }))
        .await;
    desk.click("#override [type=submit]").await;
    desk.until_says("#override-said", "from 1s to 7d").await;
    desk.browser
        .does(json!({ "type": ["#override-for", "10m"] }))
        .await;
    desk.click("#override [type=submit]").await;
    desk.until_says(&figure("account"), "4 of 5").await;
    desk.origin.until_in_flight(4).await;
    desk.until_says("[data-limit=account] .override", "Override: 5 for noisy")
        .await;
    desk.until_says("[data-limit=account] .override", "min")
        .await;
    desk.until_says("#notes", "An override is in force").await;
    desk.click("[data-limit=account] .override button").await;
    desk.until_says(&figure("account"), "4 of 3").await;
    assert_eq!(
        desk.gate.get_admin("/v1/limits/account/override").await,
        json!([])
    );
    desk.origin.open();
}

// A configuration that is refused is shown with its place, its line and the way out, and what was in force stays.
#[tokio::test]
async fn a_refused_configuration_is_shown_with_its_diagnostic() {
    let mut desk = Desk::open(LIMITS).await;
    desk.until_says("#config", "generation").await;
    desk.gate.write(&LIMITS.replace("max: 20", "maxx: 20"));
    desk.click("#reload").await;
    desk.until_says("#reload-said", "what was in force stays")
        .await;
    desk.until_says("#refusal", "tidegate.yaml:").await;
    desk.until_says("#refusal pre", "maxx: 20").await;
    desk.until_says("#refusal pre", "^^^^").await;
    desk.until_says("#refusal .hint", "did you mean `max`?")
        .await;
    desk.until_says("#notes", "The file on disk was refused")
        .await;
    desk.picture("page-refused").await;
    // Whoever sees the file first, the button or the look once a second, the page says which generation is in force.
    desk.gate.write(&LIMITS.replace("max: 20", "max: 21"));
    desk.click("#reload").await;
    desk.until_says("#reload-said", "generation 2").await;
    desk.until_says(&figure("whole"), "of 21").await;
    desk.browser
        .sees("document.querySelector('#refusal').hidden")
        .await;
    desk.click("#yaml summary").await;
    desk.until_says("#yaml-text", "max: 21").await;

    // What would become of a request, with the lines that say so.
    desk.browser
        .does(json!({ "type": ["#explain-path", "/x"] }))
        .await;
    desk.browser
        .does(json!({ "type": ["#explain-headers", "x-account: acme"] }))
        .await;
    desk.click("#explain button").await;
    desk.until_says("#explained", "acme").await;
    desk.until_says("#explained", "name: whole").await;
    // G20: and what would become of it at this moment.
    desk.until_says("#explained", "it would be admitted").await;
    desk.until_says("#explained", "fits").await;
    desk.browser
        .does(json!({ "type": ["#explain-headers", "no header"] }))
        .await;
    desk.click("#explain button").await;
    desk.until_says("#explain-said", "is no header field").await;
}

// The main actions are reached and done by keyboard alone, and the focus is seen and comes back.
#[tokio::test]
async fn everything_is_reached_by_keyboard() {
    let mut desk = Desk::open(LIMITS).await;
    desk.ask("acme", 1).await;
    desk.until_says(&figure("account"), "1 of 3").await;
    let focused = "[document.activeElement.getAttribute('aria-label') ?? (document.activeElement.id || document.activeElement.textContent.trim())]";
    let mut reached = Vec::new();
    for _ in 0..40 {
        desk.browser.does(json!({ "press": "Tab" })).await;
        let name = desk.browser.sees(focused).await[0].take();
        reached.push(name.as_str().unwrap_or_default().to_owned());
        if reached.last().is_some_and(|name| name == "reload") {
            break;
        }
    }
    for wanted in [
        "Skip to the state of the gate",
        "Override account for a while",
        "Cancel GET /of/0 of acme",
        "explain-path",
        "reload",
    ] {
        assert!(
            reached.iter().any(|name| name == wanted),
            "{wanted} in {reached:?}"
        );
    }
    let outline = "[getComputedStyle(document.activeElement).outlineStyle]";
    assert_eq!(desk.browser.sees(outline).await[0], "solid");

    // The dialog opens, traps and closes by keyboard, and gives the focus back.
    let opener = "document.querySelector('[data-limit=whole] .action button')";
    desk.browser
        .sees(&format!("({opener}.focus(), true)"))
        .await;
    desk.browser.does(json!({ "press": "Enter" })).await;
    desk.browser
        .sees("document.activeElement.id === 'override-max'")
        .await;
    desk.browser.does(json!({ "press": "Escape" })).await;
    desk.browser
        .sees(&format!("document.activeElement === {opener}"))
        .await;
    // The list holds still under a focus, and ending a request asks first.
    let cancel = "document.querySelector('#holding td.action button')";
    desk.browser
        .sees(&format!("({cancel}.focus(), true)"))
        .await;
    desk.browser.does(json!({ "press": "Enter" })).await;
    desk.browser
        .sees("document.activeElement.textContent === 'End it'")
        .await;
    desk.browser.does(json!({ "press": "Escape" })).await;
    desk.browser
        .sees(&format!("document.activeElement === {cancel}"))
        .await;
    assert_eq!(desk.origin.in_flight(), 1);
    desk.browser.does(json!({ "press": "Enter" })).await;
    desk.browser
        .sees("document.activeElement.textContent === 'End it'")
        .await;
    desk.browser.does(json!({ "press": "Enter" })).await;
    assert_eq!(desk.clients[0].response().await.status, 503);
}

// On a phone nothing is wider than the screen; hostile names are text; and both colours are drawn for people to look at.
#[tokio::test]
async fn the_page_fits_a_phone_in_both_colours() {
    let mut desk = Desk::open(LIMITS).await;
    desk.ask("acme", 2).await;
    desk.ask(HOSTILE, 3).await;
    desk.ask(
        "an-account-with-a-name-that-is-much-longer-than-any-screen-of-a-phone-is-wide",
        1,
    )
    .await;
    desk.ask("noisy", 8).await;
    desk.until_says(&figure("account"), "3 of 3").await;
    desk.until_says("#holding", HOSTILE).await;
    desk.browser
        .sees("document.querySelectorAll('main img').length === 0")
        .await;
    for (name, width, height, dark) in [
        ("page-light", 1280, 900, false),
        ("page-dark", 1280, 900, true),
        ("page-phone-light", 360, 780, false),
        ("page-phone-dark", 360, 780, true),
    ] {
        desk.browser
            .does(json!({ "look": { "width": width, "height": height, "dark": dark } }))
            .await;
        desk.browser
            .sees("document.documentElement.scrollWidth <= innerWidth")
            .await;
        let ground = "getComputedStyle(document.body).backgroundColor";
        let is_dark = format!("({ground}.match(/\\d+/g)[0] < 128) === {dark}");
        desk.browser.sees(&is_dark).await;
        desk.picture(name).await;
    }
    desk.origin.open();
}

// With a token the page asks for it, says when it is wrong, and keeps it for the tab.
#[tokio::test]
async fn the_page_asks_for_the_admin_token() {
    let token = "admin: { address: \"127.0.0.1:0\", token: { env: ADMIN_SECRET } }\n";
    let mut desk = Desk::open(&format!("{token}{LIMITS}")).await;
    let asks =
        "!document.querySelector('#sign-in').hidden && document.querySelector('#main').hidden";
    desk.browser.sees(asks).await;
    desk.browser
        .does(json!({ "type": ["#token", "open-sesame-124"] }))
        .await;
    desk.click("#sign-in button").await;
    desk.until_says("#sign-in-said", "not the right one").await;
    desk.browser
        .does(json!({ "type": ["#token", "open-sesame-123"] }))
        .await;
    desk.browser.does(json!({ "press": "Enter" })).await;
    desk.until_says("#headline", "Nothing is in flight").await;
    desk.click("#reload").await;
    desk.until_says("#reload-said", "generation 1").await;
    let page = format!("http://{}/", desk.gate.admin);
    desk.browser.does(json!({ "open": page })).await;
    desk.until_says("#headline", "Nothing is in flight").await;
    desk.browser
        .sees("document.querySelector('#sign-in').hidden")
        .await;
}

// A page whose gate is away says that what it shows is old, and comes back by itself.
#[tokio::test]
async fn what_is_no_longer_true_is_shown_as_such() {
    let mut desk = Desk::open(LIMITS).await;
    let road = Road::to(&desk.gate.admin).await;
    let page = format!("http://{}/", road.address);
    desk.browser.does(json!({ "open": page })).await;
    desk.until_says("#link", "live").await;
    desk.browser.does(json!({ "offline": true })).await;
    road.cut();
    desk.until_says("#link", "no word from the gate; shown is")
        .await;
    desk.until_says("#link", "trying again in").await;
    let dimmed = "getComputedStyle(document.querySelector('#main > *')).opacity < 1";
    desk.browser.sees(dimmed).await;
    desk.browser.does(json!({ "offline": false })).await;
    desk.until_says("#link", "live").await;
    desk.browser.sees(&format!("!({dimmed})")).await;
}

// A page under a name that only DNS gives to this address shows nothing, and says why.
#[tokio::test]
async fn a_page_under_a_strange_name_says_why_it_shows_nothing() {
    let gate = sidecar(LIMITS).before_address("127.0.0.1:9").start().await;
    let mapped = "--host-resolver-rules=MAP rebound.example 127.0.0.1";
    let mut browser = Browser::start(&[mapped]).await;
    let port = gate.admin.rsplit(':').next().unwrap();
    let page = format!("http://rebound.example:{port}/");
    browser.does(json!({ "open": page })).await;
    let said = "document.querySelector('#banner').textContent.includes('must be an IP address or localhost')";
    browser.sees(said).await;
    browser.sees("document.querySelector('#main').hidden").await;
}
