//! What stands on the screen.

use std::time::Duration;

use ratatui::style::{Color, Modifier};

use super::super::paint::Paint;
use super::*;

// CLI: 80 columns and 24 lines hold what matters.
#[test]
fn a_small_terminal_shows_who_is_full_and_who_holds() {
    let mut operator = before(overview());
    operator.clock.advance(Duration::from_secs(1));
    let mut later = overview();
    later["decisions"][0]["count"] = 862.into();
    later["limits"][1]["refused"] = 862.into();
    operator.look(later);
    let lines = operator.lines(80, 24);
    assert_eq!(
        lines[0],
        "tidegate 0.1.0 at 127.0.0.1:9901  running  up 4m10s  generation 3"
    );
    assert_eq!(
        lines[1],
        "in flight 16  queued 2  refused/s 162  leases 1  connections 22"
    );
    for (start, words) in [
        ("account ", &["10/10", "noisy", " 2 ", "162", "FULL"][..]),
        ("whole-api ", &["16/60", "██░"]),
        ("trial ", &["10/5", "shadow, 812 would be re"]),
        ("noisy ", &["10", "api 10.0.0.1:3000", "healthy"]),
        ("acme ", &["2", "9", "EJECTED to 00:00:12Z"]),
    ] {
        let line = line_of(&lines, start);
        for word in words {
            assert!(line.contains(word), "{word} in {line}");
        }
    }
    // The oldest first, whatever they do.
    let requests = lines
        .iter()
        .position(|line| line.starts_with("  requests"))
        .unwrap();
    let states = ["2h05m lease", "1m15s streaming", "1.2s queued"];
    for (line, state) in lines[requests + 1..].iter().zip(states) {
        assert!(line.contains(state), "{state} in {line}");
    }
    assert!(lines[23].starts_with("q quit  ? help"), "{}", lines[23]);
}

#[test]
fn a_large_terminal_shows_all_columns() {
    let lines = before(overview()).lines(160, 50);
    let titles = line_of(&lines, "limits");
    for title in [
        "fullest",
        "in flight",
        "of",
        "queued",
        "refused/s",
        "last 2m00s",
    ] {
        assert!(titles.contains(title), "{title} in {titles}");
    }
    assert!(line_of(&lines, "trial").contains("shadow, 812 would be refused"));
    let line = line_of(&lines, "birch");
    assert!(line.contains("api") && line.ends_with(" 2"), "{line}");
}

// CLI: an override is marked with what is left of it, at any size.
#[test]
fn an_override_says_what_is_left_of_it() {
    let mut seen = overview();
    let limit = &mut seen["limits"][1];
    limit["overrides"] = json!([
        { "limit": "account", "account": "noisy", "group": null, "max": 15, "seconds_left": 599 }
    ]);
    limit["fullest"][1]["max"] = 15.into();
    let lines = before(seen.clone()).lines(80, 24);
    let line = line_of(&lines, "account ");
    assert!(
        line.contains("10/15") && line.contains("max 15 noisy, 9m59s left"),
        "{line}"
    );
    let everyone = json!({ "account": null, "group": null, "max": 0, "seconds_left": 5 });
    seen["limits"][1]["overrides"]
        .as_array_mut()
        .unwrap()
        .push(everyone);
    let lines = before(seen).lines(80, 24);
    assert!(line_of(&lines, "account ").contains("2 overrides, 5s left"));
}

// CLI: numbers that are not of now say so, and for how long.
#[test]
fn a_gate_that_does_not_answer_is_stale() {
    let mut operator = before(overview());
    for _ in 0..12 {
        operator.clock.advance(Duration::from_secs(1));
        operator
            .state
            .miss(operator.now(), "nobody listens\u{1b}[31m");
    }
    let lines = operator.lines(80, 24);
    assert_eq!(lines[2], "STALE, 12s old: nobody listens�[31m");
    assert!(line_of(&lines, "account ").contains("10/10"));
    operator.look(overview());
    assert!(!operator.lines(80, 24).join("").contains("STALE"));
    // Slow to answer is stale too.
    operator.clock.advance(Duration::from_secs(4));
    assert!(operator.lines(80, 24)[2].starts_with("STALE, 4s old"));
}

#[test]
fn a_gate_that_never_answered_is_said_to_be_silent() {
    let mut operator = operator();
    assert!(
        operator
            .lines(80, 24)
            .join("")
            .contains("waiting for the gate's first answer")
    );
    operator
        .state
        .miss(operator.now(), "no gate can be reached at 127.0.0.1:9901");
    operator.clock.advance(Duration::from_secs(3));
    let lines = operator.lines(80, 24);
    assert!(
        lines[1].starts_with("NO ANSWER for 3s: no gate can be reached"),
        "{}",
        lines[1]
    );
}

// CLI: a refused reload is shown until a configuration comes into force.
#[test]
fn a_refused_reload_is_marked_until_one_succeeds() {
    let mut seen = overview();
    seen["last_refusal"] = json!({ "at": "2026-01-01T00:05:00.000Z", "diagnostics": [
        { "code": "unknown_key", "message": "`maximum` is no key", "file": "tidegate.yaml", "line": 7 }
    ] });
    let lines = before(seen.clone()).lines(160, 24);
    let wanted = "RELOAD REFUSED 2026-01-01T00:05:00.000Z: unknown_key at tidegate.yaml:7: `maximum` is no key";
    assert_eq!(lines[2], wanted);
    seen["loaded_at"] = "2026-01-01T00:06:00.000Z".into();
    assert!(!before(seen).lines(160, 24).join("").contains("REFUSED"));
}

// CLI: what a client chose is shown, and not obeyed.
#[test]
fn hostile_text_cannot_speak_to_the_terminal() {
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}x\u{9b}31m";
    let mut seen = overview();
    seen["requests"]["holding"][0]["path"] = hostile.into();
    seen["accounts"][1]["account"] = hostile.into();
    seen["limits"][1]["fullest"][1]["key"]["account"] = hostile.into();
    seen["version"] = hostile.into();
    seen["upstreams"][0]["endpoints"][0]["address"] = hostile.into();
    let mut operator = before(seen);
    operator.state.say(operator.now(), hostile, true);
    for (width, height) in [(80, 24), (160, 50)] {
        let text = operator.lines(width, height).join("");
        assert!(
            !text.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
        assert!(text.contains("�]0;owned"), "{text}");
    }
    let page = draw::page(&operator.state, operator.now(), 160);
    assert!(page.is_ascii() && !page.contains('\u{1b}'), "{page}");
    assert!(page.contains("?]0;owned"), "{page}");
}

// CLI: NO_COLOR, and no colour says anything alone.
#[test]
fn without_colours_weight_and_words_are_left() {
    let operator = before(overview());
    let colours = |paint| {
        let terminal = operator.screen(80, 24, paint);
        let cells = terminal.backend().buffer().content.clone();
        cells
            .into_iter()
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    let none = Paint {
        has_colour: false,
        has_unicode: false,
    };
    assert!(colours(COLOURS) > 0);
    assert_eq!(colours(none), 0);
    let terminal = operator.screen(80, 24, none);
    let buffer = terminal.backend().buffer();
    assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()));
    assert!(
        buffer
            .content
            .iter()
            .any(|cell| cell.modifier.contains(Modifier::BOLD))
    );
    assert!(operator.lines(80, 24).join("").contains("FULL"));
}

// CLI: it is drawn at any size, with whatever is open, and a narrow one keeps what matters.
#[test]
fn every_size_is_drawn() {
    let mut operator = before(overview());
    operator.types("jo15");
    for width in (1..90).chain([200, 400]) {
        for height in (1..30).step_by(3).chain([100]) {
            operator.lines(width, height);
            operator.state.is_help = !operator.state.is_help;
        }
    }
    operator.press(KeyCode::Esc);
    operator.state.is_help = false;
    let lines = operator.lines(40, 12);
    assert!(line_of(&lines, "account ").contains("10/10"));
    assert!(line_of(&lines, "birch ").contains("2h05m"));
}

// CLI: long lists are cut to the screen, and the selected row is in it.
#[test]
fn the_selected_row_is_on_the_screen() {
    let mut seen = overview();
    let request = |id: u32| {
        json!({ "id": id, "account": format!("a{id}"), "method": "GET", "path": "/", "state": "forwarded",
                "age_seconds": 200 - id, "upstream": "api" })
    };
    seen["requests"]["holding"] = (100..160).map(request).collect();
    let mut operator = before(seen);
    operator.types("\t\t\tG");
    let lines = operator.lines(80, 24);
    assert!(
        lines.iter().any(|line| line.starts_with("> noisy")),
        "{}",
        lines.join("\n")
    );
    operator.types("g");
    let lines = operator.lines(80, 24);
    assert!(
        lines.iter().any(|line| line.starts_with("> birch")),
        "{}",
        lines.join("\n")
    );
}

// CLI: the plain page holds every row, for scripts.
#[test]
fn the_plain_page_is_as_long_as_it_needs() {
    let mut seen = overview();
    let name = |id: u32| json!({ "name": format!("limit-{id}"), "max": 10, "in_flight": 3, "used_ratio": 0.3 });
    seen["limits"] = (0..150).map(name).collect();
    let operator = before(seen);
    let page = draw::page(&operator.state, operator.now(), 160);
    assert!(page.is_ascii(), "{page}");
    assert_eq!(page.matches("limit-").count(), 150);
    assert!(page.contains("EJECTED") && page.contains("/calls/31") && !page.contains("q quit"));
    assert!(page.lines().all(|line| line.trim_end() == line));
}
