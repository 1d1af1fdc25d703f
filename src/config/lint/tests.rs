//! What is said to be never reached is compared with the domain itself, which is asked with requests of all kinds.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::admission::{Decision, Policy, Registry};
use crate::classify::{Peer, Rules};
use crate::clock::Clock;
use crate::config::{Secrets, parse};
use crate::head::Head;

const HEAD: &str = "server: { listeners: [{ address: '127.0.0.1:8080' }] }
upstreams: { api: { endpoints: ['127.0.0.1:1', '127.0.0.1:2'] }, bulk: { endpoints: ['127.0.0.1:3'] } }
default_upstream: api
accounts:
  identify: [{ header: x-account }]
  groups: { gold: { accounts: [A, B] } }
resources:
  - { name: a, match: { path: /a }, upstream: api }
  - { name: b, match: { path: /b }, upstream: bulk, cost: 2 }
limits:
";

fn limit() -> impl Strategy<Value = String> {
    let per = prop::sample::select(vec![
        "[]",
        "[account]",
        "[group]",
        "[resource]",
        "[account, resource]",
        "[account, upstream]",
        "[process]",
    ]);
    let covers = prop::sample::select(vec![
        "",
        ", resources: [a]",
        ", except: [a]",
        ", upstreams: [api]",
        ", upstreams: [api, bulk]",
    ]);
    let ladder = prop::sample::select(vec![
        "",
        "",
        ", when_full: [{ admit: { up_to: 9, mark: m } }]",
        ", when_full: [{ reroute: bulk }]",
    ]);
    let max = prop::sample::select(vec!["1", "2", "4", "6", "{ per_endpoint: 2, of: api }"]);
    (per, covers, ladder, max)
        .prop_map(|(per, covers, ladder, max)| format!("per: {per}, max: {max}{covers}{ladder}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // G20: a limit that is said to be never reached refuses nobody, whatever comes.
    #[test]
    fn what_is_said_to_be_never_reached_is_not(
        limits in prop::collection::vec(limit(), 2..4),
        requests in prop::collection::vec((0usize..3, 0usize..2, any::<bool>()), 1..40),
    ) {
        let named = limits.iter().enumerate();
        let rows = named.map(|(index, rest)| format!("  - {{ name: l{index}, {rest} }}\n"));
        let text = HEAD.to_owned() + &rows.collect::<String>();
        let Ok(config) = parse(Path::new("t.yaml"), &text, Secrets::Optional) else {
            // Limits that cannot be, such as going over to less than the maximum.
            return Ok(());
        };
        let said: Vec<_> = config.warnings.iter()
            .filter(|found| found.code == "never_reached")
            .map(|found| found.message.clone())
            .collect();
        let policy = Arc::new(Policy::new(config.policy, None));
        let rules = Rules::new(config.rules);
        let (registry, now) = (Registry::new(), Clock::default().now());
        policy.follow_endpoints(|_| 2);
        let mut held = std::collections::VecDeque::new();
        for (account, resource, is_over) in requests {
            let head = http::Request::get(["/a", "/b"][resource]).header("x-account", ["A", "B", "C"][account]);
            let (head, ()) = head.body(()).unwrap().into_parts();
            let class = rules.classify(&Head::from(&head), &Peer::default()).unwrap().unwrap().class;
            match registry.acquire(&policy, &class, now) {
                Decision::Admit(permit) => held.push_back(permit),
                Decision::Wait(_) => {}
                Decision::Reject(rejection) => {
                    let is_said = |message: &String| message.starts_with(&format!("limit `{}` is never", rejection.limit));
                    prop_assert!(!said.iter().any(is_said), "{text}\n{said:?}\n{rejection:?}");
                }
            }
            if is_over {
                drop(held.pop_front());
            }
        }
    }
}
