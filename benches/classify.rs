//! What it costs to name a request: 1 to 500 rules, the last of which matches.
//!
//! Beside the rules run two naive matchers behind the same trait: a hash map over the path with its third segment
//! blanked, which knows this one shape of path only, and a `RegexSet`, which finds all matches and then the capture.
//! Both yield rule and account, nothing more. The allocator counts: naming a request shows none.

use std::collections::HashMap;

use divan::{AllocProfiler, Bencher, black_box};
use http::{Method, Version};
use regex::{Regex, RegexSet};
use tidegate::admission::{AccountName, Cost, Priority, UpstreamId};
use tidegate::classify::{AccountSource, Peer, Resource, ResourceMatch, Rules, Settings, Template};
use tidegate::head::Head;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const RULES: [usize; 4] = [1, 10, 100, 500];

fn main() {
    divan::main();
}

/// The question, as every matcher answers it: which rule, and who pays.
trait Matcher: Sync {
    fn new(rules: usize) -> Self;

    fn find(&self, head: &Head) -> Option<(usize, AccountName)>;
}

impl Matcher for Rules {
    fn new(rules: usize) -> Self {
        let resource = |number| Resource {
            name: format!("resource-{number}"),
            matches: Some(ResourceMatch {
                methods: vec![Method::POST],
                path: Some(Template::parse(&template(number)).expect("a template")),
                ..ResourceMatch::default()
            }),
            upstream: UpstreamId(0),
            cost: Cost::Fixed(1),
            priority: Priority::Normal,
            is_exempt: false,
        };
        Self::new(Settings {
            resources: (0..rules).map(resource).collect(),
            identify: vec![AccountSource::Path("account".into())],
            unidentified: AccountName::new(b"anonymous").expect("a name"),
            groups: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            retries: None,
            plugin: None,
        })
    }

    fn find(&self, head: &Head) -> Option<(usize, AccountName)> {
        let class = self.classify(head, &Peer::default()).ok()??.class;
        Some((usize::from(class.resource.0), class.account))
    }
}

/// A map from method and blanked path to the rule.
struct Blanked(HashMap<String, usize>);

impl Matcher for Blanked {
    fn new(rules: usize) -> Self {
        let entry = |number| {
            (
                format!("POST {}", template(number).replace("{account}", "*")),
                number,
            )
        };
        Self((0..rules).map(entry).collect())
    }

    fn find(&self, head: &Head) -> Option<(usize, AccountName)> {
        let mut segments: Vec<_> = head.path_text().split('/').collect();
        let account = std::mem::replace(segments.get_mut(3)?, "*");
        let rule = self
            .0
            .get(&format!("{} {}", head.method, segments.join("/")))?;
        Some((*rule, AccountName::new(account.as_bytes()).ok()?))
    }
}

/// All rules as one automaton, then the rule's own for its capture.
struct Expressions {
    set: RegexSet,
    each: Vec<Regex>,
}

impl Matcher for Expressions {
    fn new(rules: usize) -> Self {
        let pattern = |number| {
            format!(
                "^{}$",
                template(number)
                    .replace('.', r"\.")
                    .replace("{account}", "([^/]+)")
            )
        };
        let patterns: Vec<_> = (0..rules).map(pattern).collect();
        let each = patterns
            .iter()
            .map(|one| Regex::new(one).expect("a pattern"))
            .collect();
        Self {
            set: RegexSet::new(&patterns).expect("patterns"),
            each,
        }
    }

    fn find(&self, head: &Head) -> Option<(usize, AccountName)> {
        let path = head.path_text();
        let rule = self
            .set
            .matches(path)
            .iter()
            .next()
            .filter(|_| head.method == Method::POST)?;
        let account = self.each[rule].captures(path)?.get(1)?;
        Some((rule, AccountName::new(account.as_str().as_bytes()).ok()?))
    }
}

fn template(number: usize) -> String {
    format!("/2010-04-01/Accounts/{{account}}/Thing{number}.json")
}

fn head(path: &str) -> Head {
    let mut head = Head::new(Method::POST, Version::HTTP_11, path).expect("a target");
    head.fields.push(b"host", b"api.example");
    head
}

/// The last of so many rules matches.
#[divan::bench(types = [Rules, Blanked, Expressions], args = RULES, sample_size = 256, sample_count = 200)]
fn last_rule<M: Matcher>(bencher: Bencher<'_, '_>, rules: usize) {
    let matcher = M::new(rules);
    let head = head(&template(rules - 1).replace("{account}", "AC0123456789abcdef"));
    assert_eq!(matcher.find(&head).map(|(rule, _)| rule), Some(rules - 1));
    bencher.bench(|| matcher.find(black_box(&head)));
}

/// None of so many rules matches.
#[divan::bench(types = [Rules, Blanked, Expressions], args = RULES, sample_size = 256, sample_count = 200)]
fn no_rule<M: Matcher>(bencher: Bencher<'_, '_>, rules: usize) {
    let matcher = M::new(rules);
    let head = head("/2010-04-01/Accounts/AC0123456789abcdef/Other.json");
    assert_eq!(matcher.find(&head), None);
    bencher.bench(|| matcher.find(black_box(&head)));
}

/// A path that is spelt with escapes and dots, so that it is rewritten before it is matched.
#[divan::bench(sample_size = 256, sample_count = 200)]
fn rewritten_path(bencher: Bencher<'_, '_>) {
    let matcher = <Rules as Matcher>::new(10);
    let head = head("/2010-04-01/./Accounts/%41C0123456789abcdef/Thing9.json");
    assert!(matcher.find(&head).is_some());
    bencher.bench(|| matcher.find(black_box(&head)));
}
