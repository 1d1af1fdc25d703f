//! What keys do.

use super::super::question::Whose;
use super::super::state::{Order, Panel};
use super::*;

fn selected(operator: &Operator, panel: Panel) -> Option<&str> {
    operator.state.choice(panel).selected.as_deref()
}

// CLI: a request is cancelled after a `y`, and by nothing else.
#[test]
fn cancelling_asks_first() {
    let mut operator = before(overview());
    operator.types("c");
    assert!(
        operator.status().contains("select a request first"),
        "{}",
        operator.status()
    );
    operator.types("\t\t\tjjc");
    assert_eq!(operator.status(), "cancel GET /calls/7 of acme? y/n");
    operator.types("z");
    assert!(operator.effects.is_empty() && operator.state.question.is_some());
    operator.types("n");
    assert!(operator.effects.is_empty() && operator.state.question.is_none());
    operator.types("c\n");
    assert!(operator.effects.is_empty() && operator.state.question.is_none());
    operator.types("cy");
    let what = "GET /calls/7 of acme".to_owned();
    assert_eq!(operator.effects, [Effect::Cancel { id: 7, what }]);
}

// CLI: rows move, but what was selected and asked about stays the same.
#[test]
fn a_selection_is_of_a_thing_and_not_of_a_place() {
    let mut operator = before(overview());
    operator.types("\t\t\tjj");
    assert_eq!(selected(&operator, Panel::Requests), Some("7"));
    operator.types("c");
    let mut later = overview();
    later["requests"]["holding"][0]["age_seconds"] = 9_999.into();
    operator.look(later.clone());
    assert_eq!(selected(&operator, Panel::Requests), Some("7"));
    // It is gone: nothing is selected, and the question is still about it.
    later["requests"]["holding"] = json!([]);
    operator.look(later);
    assert_eq!(selected(&operator, Panel::Requests), None);
    operator.types("y");
    assert!(matches!(
        operator.effects[..],
        [Effect::Cancel { id: 7, .. }]
    ));
    operator.types("c");
    assert!(operator.status().contains("select a request first"));
}

// CLI: an override has a maximum, a time, and perhaps an account; nonsense is asked again.
#[test]
fn an_override_is_typed() {
    let mut operator = before(overview());
    operator.types("jo");
    assert!(
        operator.status().starts_with("max of trial"),
        "{}",
        operator.status()
    );
    operator.press(KeyCode::Esc).types("jo1x\n");
    assert!(
        operator.status().starts_with("a maximum is a whole number"),
        "{}",
        operator.status()
    );
    operator.press(KeyCode::Backspace).types("5\n");
    assert_eq!(
        operator.status(),
        "max 15 of account for how long, such as 10m: 10m"
    );
    operator.types("x\n");
    assert!(operator.status().contains("10mx"), "{}", operator.status());
    operator.press(KeyCode::Backspace).types("\nnoisy\n");
    let wanted = Effect::Override {
        limit: "account".into(),
        max: 15,
        lasts: "10m".to_owned(),
        account: Some("noisy".to_owned()),
    };
    assert_eq!(operator.effects, [wanted]);
    // A limit that counts by nothing has no account to ask for.
    operator.types("jo7\n\n");
    let wanted = Effect::Override {
        limit: "whole-api".into(),
        max: 7,
        lasts: "10m".to_owned(),
        account: None,
    };
    assert_eq!(operator.effects[1..], [wanted]);
}

#[test]
fn an_override_is_ended_by_its_owner() {
    let mut seen = overview();
    let of = |account, group| json!({ "account": account, "group": group, "max": 15, "seconds_left": 60 });
    let (noisy, gold) = (of(Some("noisy"), None), of(None, Some("gold")));
    seen["limits"][1]["overrides"] = json!([noisy]);
    let mut operator = before(seen.clone());
    operator.types("jx");
    assert!(
        operator.status().contains("no override in force"),
        "{}",
        operator.status()
    );
    operator.types("jx");
    assert_eq!(
        operator.status(),
        "end the override of account for noisy? y/n"
    );
    operator.types("y");
    let end = |whose| Effect::EndOverride {
        limit: "account".into(),
        whose,
    };
    assert_eq!(operator.effects, [end(Whose::Account("noisy".into()))]);
    seen["limits"][1]["overrides"] = json!([noisy, gold]);
    operator.look(seen);
    operator.types("x");
    assert!(
        operator.status().ends_with("1: noisy  2: group gold"),
        "{}",
        operator.status()
    );
    operator.types("92");
    assert_eq!(operator.effects[1..], [end(Whose::Group("gold".into()))]);
}

#[test]
fn a_filter_shows_one_account_and_looks_for_its_requests() {
    let mut operator = before(overview());
    operator.types("/noi\n");
    assert_eq!(operator.effects, [Effect::Look]);
    let text = operator.lines(80, 24).join("\n");
    assert!(
        text.contains("/calls/31") && !text.contains("birch"),
        "{text}"
    );
    assert!(text.contains("only accounts that contain noi"));
    // Keys that would do something are typed while something is typed.
    operator.types("/q");
    assert_eq!(operator.state.filter, "noi");
    operator.press(KeyCode::Esc).types("/");
    for _ in 0..3 {
        operator.press(KeyCode::Backspace);
    }
    operator.types("\n");
    assert!(operator.lines(80, 24).join("\n").contains("birch"));
}

#[test]
fn a_pause_keeps_what_is_shown() {
    let mut operator = before(overview());
    operator.types("p");
    let mut later = overview();
    later["in_flight"] = 99.into();
    operator.clock.advance(Duration::from_secs(30));
    operator.look(later.clone());
    let lines = operator.lines(80, 24);
    assert!(lines[1].starts_with("in flight 16"));
    assert_eq!(lines[2], "PAUSED, 30s old; p goes on");
    operator.types("p");
    assert_eq!(operator.effects, [Effect::Look]);
    operator.look(later);
    assert!(operator.lines(80, 24)[1].starts_with("in flight 99"));
}

#[test]
fn each_part_is_sorted_in_its_own_ways() {
    let mut operator = before(overview());
    let limits = |operator: &Operator| {
        let limits = operator.state.limits();
        limits
            .iter()
            .map(|limit| limit.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(limits(&operator), ["trial", "account", "whole-api"]);
    operator.types("ss");
    assert_eq!(operator.state.order(Panel::Limits), Order::Queued);
    assert_eq!(limits(&operator)[0], "account");
    operator.types("s");
    assert_eq!(limits(&operator), ["whole-api", "account", "trial"]);
    assert!(
        operator
            .lines(160, 24)
            .join("")
            .contains("limits: as in the file")
    );
    operator.types("\t\t\ts");
    let first = operator.state.requests()[0].id;
    assert_eq!(first, 31);
}

#[test]
fn help_and_the_ends() {
    let mut operator = before(overview());
    operator.types("?");
    assert!(
        operator
            .lines(80, 24)
            .join("\n")
            .contains("quit; the gate goes on")
    );
    operator.types("x");
    assert!(!operator.state.is_help && operator.effects.is_empty());
    operator.types("q");
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    operator.types("/");
    let now = operator.now();
    let effect = operator.state.key(control_c, now);
    assert_eq!(
        (&operator.effects[..], effect),
        (&[Effect::Quit][..], Some(Effect::Quit))
    );
}
