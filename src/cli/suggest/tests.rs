//! The rules of the fragment, each with observations made for it; and that what is printed is a configuration.

use std::time::Duration;

use super::fragment::{Unfit, fragment};
use super::observe::{Load, Observed, Resource};
use crate::admission::{Dimension, LimitSettings, Mode};
use crate::config::{self, Secrets};

/// Requests of that cost, so many a second for so long, of which at most `peak` were seen at once; watched for a minute.
fn load(rate: u32, held_seconds: f64, peak: u32, cost: u32) -> Load {
    let mean = f64::from(rate) * held_seconds;
    Load {
        finished: u64::from(rate) * 60,
        rejected: 0,
        peak: peak * cost,
        mean,
        mean_places: mean * f64::from(cost),
        variance: mean * f64::from(cost * cost),
        head_seconds: Some(held_seconds),
    }
}

fn resource(name: &str, cost: u32, load: Load) -> Resource {
    Resource {
        name: name.to_owned(),
        cost,
        load,
    }
}

fn observed(whole: Load, resources: Vec<Resource>, accounts: &[(&str, u32)]) -> Observed {
    let accounts = accounts
        .iter()
        .map(|(name, peak)| ((*name).to_owned(), *peak));
    Observed {
        watched: Duration::from_secs(60),
        looks: 240,
        whole,
        resources,
        accounts: accounts.collect(),
        was_reloaded: false,
    }
}

/// A gate with one resource beside `other`.
fn usual(load: Load) -> Observed {
    observed(load, vec![resource("calls", 1, load)], &[("acme", 1)])
}

/// What a configuration makes of the fragment.
fn limits(text: &str) -> Vec<LimitSettings> {
    let yaml = format!(
        "server: {{ listeners: [{{ address: '127.0.0.1:8080' }}] }}\n\
         upstreams: {{ api: {{ endpoints: ['127.0.0.1:3000'] }} }}\n\
         default_upstream: api\n\
         accounts: {{ identify: [{{ header: x-account }}] }}\n\
         resources:\n\
         - {{ name: calls, match: {{ path: /calls }}, upstream: api }}\n\
         - {{ name: \"1.0\", match: {{ path: /one }}, upstream: api, cost: 7 }}\n\
         {text}"
    );
    match config::parse("suggested.yaml".as_ref(), &yaml, Secrets::Required) {
        Ok(config) => config.policy.limits,
        Err(report) => panic!("{report}"),
    }
}

fn named<'l>(limits: &'l [LimitSettings], name: &str) -> &'l LimitSettings {
    let found = limits.iter().find(|limit| limit.name == name);
    found.unwrap_or_else(|| panic!("no limit {name} in {limits:?}"))
}

// G7: the most that was seen times the headroom, or where the looks missed the peak, the mean and four roots of it.
#[test]
fn a_maximum_is_the_larger_of_peak_with_headroom_and_mean_with_spread() {
    for (rate, held, peak, headroom, wanted) in [
        (100, 0.16, 40, 150, 60),
        (100, 0.16, 40, 200, 80),
        (100, 0.16, 41, 150, 62),
        // L = 16: 16 + 4 × 4.
        (100, 0.16, 17, 150, 32),
        // L = 0.5: 0.5 + 4 × 0.707 = 3.3.
        (5, 0.1, 1, 150, 4),
    ] {
        let text = fragment(&usual(load(rate, held, peak, 1)), "gate", headroom).unwrap();
        let limits = limits(&text);
        assert_eq!(named(&limits, "suggested-whole").max, wanted, "{text}");
    }
}

// G7: what is pasted refuses nothing, and is a configuration with the evidence beside it.
#[test]
fn a_fragment_is_limits_in_shadow_mode_with_their_evidence() {
    let calls = load(40, 0.1, 14, 1);
    let other = load(10, 0.2, 5, 1);
    let mut whole = load(50, 0.12, 17, 1);
    whole.rejected = 12;
    let resources = vec![resource("calls", 1, calls), resource("other", 1, other)];
    let mut seen = observed(whole, resources, &[("noisy", 10), ("acme", 3), ("b", 1)]);
    seen.was_reloaded = true;
    let text = fragment(&seen, "127.0.0.1:9901", 150).unwrap();
    let limits = limits(&text);
    assert!(limits.iter().all(|limit| limit.mode == Mode::Shadow));
    let read: Vec<_> = limits
        .iter()
        .map(|limit| (limit.name.as_str(), limit.per.len(), limit.max))
        .collect();
    let wanted = [
        ("suggested-whole", 0, 26),
        ("suggested-account", 1, 15),
        ("suggested-resource-calls", 0, 21),
        ("suggested-resource-other", 0, 8),
    ];
    assert_eq!(read, wanted);
    assert_eq!(limits[1].per, [Dimension::Account]);
    assert!(limits[2].resources.as_ref().is_some_and(|of| of.len() == 1));
    for evidence in [
        "from 1m at 127.0.0.1:9901, 240 looks",
        "150 %",
        "3000 finished, 50.0 a second; 6.0 places taken on average, 17 at most",
        "50.0/s × 0.120 s to the answer's head = 6.0 in flight; 6.0 were, so each was held for 0.120 s",
        "noisy 10, acme 3, b 1",
        "12 requests were refused",
        "configuration was changed",
        "cannot know",
    ] {
        assert!(text.contains(evidence), "{evidence} in\n{text}");
    }
}

// G7: an idle gate, or one that showed too little, gets no invented numbers but a way out.
#[test]
fn too_little_is_said_and_nothing_invented() {
    let watched = Duration::from_secs(60);
    let refusal = |load| fragment(&usual(load), "gate", 150).unwrap_err();
    assert_eq!(refusal(Load::default()), Unfit::Idle { watched });
    let few = Load {
        finished: 40,
        peak: 2,
        ..Load::default()
    };
    let too_little = Unfit::TooLittle {
        finished: 40,
        watched,
    };
    assert_eq!(refusal(few), too_little);
    assert!(too_little.to_string().ends_with("such as --for 3m"));
    let none_finished = Load { finished: 0, ..few };
    let told = refusal(none_finished).to_string();
    assert!(told.starts_with("only 0 requests finished in 1m"), "{told}");
}

// G7: what is held for long must be watched for longer.
#[test]
fn a_watch_that_is_short_for_the_hold_time_is_said_to_be() {
    let held = |seconds| fragment(&usual(load(10, seconds, 100, 1)), "gate", 150);
    assert!(held(5.9).is_ok());
    let told = held(20.0).unwrap_err();
    assert!(
        matches!(told, Unfit::TooShort { held, .. } if (held - 20.0).abs() < 1e-6),
        "{told:?}"
    );
    let told = told.to_string();
    assert!(
        told.contains("20.0 s") && told.ends_with("--for 4m"),
        "{told}"
    );
}

// G7: a resource that showed too little is left out with the reason; the others are not.
#[test]
fn a_resource_with_too_little_traffic_is_left_out() {
    let calls = load(40, 0.1, 14, 1);
    let rare = Load {
        finished: 3,
        peak: 1,
        ..Load::default()
    };
    let never = resource("never", 1, Load::default());
    let resources = vec![
        resource("calls", 1, calls),
        resource("rare", 1, rare),
        never,
    ];
    let text = fragment(&observed(calls, resources, &[]), "gate", 150).unwrap();
    let limits = limits(&text);
    assert_eq!(limits.len(), 2, "{text}");
    assert!(
        text.contains("No limit for the resource `rare`: only 3 requests"),
        "{text}"
    );
    assert!(!text.contains("never`"), "{text}");
}

// G7: one account is the whole, and so is one resource.
#[test]
fn what_is_the_only_one_gets_no_limit_of_its_own() {
    let text = fragment(&usual(load(100, 0.1, 20, 1)), "gate", 150).unwrap();
    assert_eq!(limits(&text).len(), 1, "{text}");
    assert!(
        text.contains("there was one only (acme 1)") && text.contains("only `calls` had traffic"),
        "{text}"
    );
}

// G7, A27: limits count places; a request that costs several takes several, and always fits.
#[test]
fn dear_requests_count_with_their_cost() {
    let dear = load(10, 0.1, 4, 7);
    let cheap = load(10, 0.1, 2, 1);
    let whole = Load {
        finished: dear.finished + cheap.finished,
        peak: 29,
        mean: dear.mean + cheap.mean,
        mean_places: dear.mean_places + cheap.mean_places,
        variance: dear.variance + cheap.variance,
        ..dear
    };
    let resources = vec![resource("1.0", 7, dear), resource("other", 1, cheap)];
    let seen = observed(whole, resources, &[("a", 4), ("b", 1)]);
    let text = fragment(&seen, "gate", 150).unwrap();
    let limits = limits(&text);
    // 4 × 7 × 1.5; for the whole and for all accounts 29 × 1.5.
    assert_eq!(named(&limits, "suggested-resource-1.0").max, 42, "{text}");
    assert_eq!(named(&limits, "suggested-whole").max, 44);
    assert_eq!(named(&limits, "suggested-account").max, 42);

    // A dear resource without traffic fits the whole all the same.
    let idle = resource("1.0", 7, Load::default());
    let seen = observed(
        load(10, 0.01, 1, 1),
        vec![idle, resource("other", 1, cheap)],
        &[],
    );
    let text = fragment(&seen, "gate", 150).unwrap();
    assert_eq!(named(&self::limits(&text), "suggested-whole").max, 7);
}

// G7: whatever a gate answers stays within its comment.
#[test]
fn names_cannot_leave_their_comment() {
    let accounts = [("a\nlimits: []", 3), ("b", 1)];
    let calls = load(40, 0.1, 14, 1);
    let seen = observed(calls, vec![resource("calls", 1, calls)], &accounts);
    let text = fragment(&seen, "gate", 150).unwrap();
    assert_eq!(limits(&text).len(), 2, "{text}");
}
