//! The admission domain from outside: no HTTP, no file, time by hand, chance by seed.
//!
//! A [`World`] is a registry, the policy of the moment and a manual clock. Never sleeps, never reads the
//! machine's clock except to bound how long a churn runs.

mod adaptive;
mod candidates;
mod credit;
mod crowd;
mod due;
mod due_simulation;
mod early;
mod exact;
mod fairness;
mod keys;
mod ladder;
mod moving;
mod reload;
mod retries;
mod shadow;
pub(super) mod simulation;
mod sparing;
mod tally;
mod usage;
mod waiting;

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;
use tidegate::admission::{
    AccountName, Class, Decision, Dimension, GroupId, LimitSettings, Mode, Permit, Policy,
    PolicyGroup, PolicyResource, PolicySettings, Priority, Registry, Rejection, ResourceId, Turn,
    UpstreamId, Wait,
};
use tidegate::clock::Clock;

/// Resources of every world; `calls` and `messages` go to `api`, `jobs` to `bulk`, `probes` are exempt.
const CALLS: ResourceId = ResourceId(0);
const MESSAGES: ResourceId = ResourceId(1);
const JOBS: ResourceId = ResourceId(2);
const PROBES: ResourceId = ResourceId(3);

/// The only group of every world, of the accounts `gold-1` and `gold-2`.
const GOLD: GroupId = GroupId(0);

/// A registry under one policy.
struct World {
    registry: Arc<Registry>,
    policy: Arc<Policy>,
    clock: Clock,
    weight_of_gold: u32,
}

impl World {
    fn new(limits: &[LimitSettings]) -> Self {
        let policy = Arc::new(Policy::new(settings(limits, 1), None));
        Self {
            weight_of_gold: 1,
            registry: Registry::new(),
            policy,
            clock: Clock::manual(),
        }
    }

    /// Replaces the policy as a reload does; gives the names that count from zero.
    fn reload(&mut self, limits: &[LimitSettings]) -> Vec<String> {
        let settings = settings(limits, self.weight_of_gold);
        let policy = Arc::new(Policy::new(settings, Some(&self.policy)));
        let from_zero = policy.counting_from_zero(&self.policy);
        self.registry.apply(&policy);
        self.policy = policy;
        from_zero.iter().map(ToString::to_string).collect()
    }

    /// Accounts of the group have so much weight from the next reload on.
    fn weigh_gold(&mut self, weight: u32) {
        self.weight_of_gold = weight;
    }

    fn acquire(&self, class: &Class) -> Decision {
        self.registry.acquire(&self.policy, class, self.clock.now())
    }

    #[track_caller]
    fn admit(&self, class: &Class) -> Permit {
        match self.acquire(class) {
            Decision::Admit(permit) => permit,
            other => panic!("not admitted: {other:?}"),
        }
    }

    #[track_caller]
    fn refuse(&self, class: &Class) -> Rejection {
        match self.acquire(class) {
            Decision::Reject(rejection) => *rejection,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Permits until the first refusal.
    fn fill(&self, class: &Class) -> Vec<Permit> {
        let admitted = std::iter::from_fn(|| match self.acquire(class) {
            Decision::Admit(permit) => Some(permit),
            Decision::Reject(_) | Decision::Wait(_) => None,
        });
        admitted.take(10_000).collect()
    }

    /// What the class's key counts under a limit.
    fn in_flight(&self, limit: &str, class: &Class) -> u32 {
        let limit = self.policy.limit(limit).expect("the limit is configured");
        self.registry.in_flight(&self.policy, limit, class)
    }

    /// Every count of every cell that is not zero, by cell id: what an auditor sees.
    fn counts(&self) -> Vec<(u64, u32)> {
        let mut counts = Vec::new();
        self.registry.counts(&self.policy, |id, count| {
            if count > 0 {
                counts.push((id, count));
            }
        });
        counts.sort_unstable();
        counts
    }

    #[track_caller]
    fn assert_empty(&self) {
        assert_eq!(self.counts(), []);
        let snapshot = self.registry.snapshot(&self.policy);
        assert_eq!(snapshot.in_flight, 0);
        assert!(
            snapshot
                .limits
                .iter()
                .all(|limit| limit.in_flight == 0 && limit.keys == 0)
        );
    }
}

fn settings(limits: &[LimitSettings], weight_of_gold: u32) -> PolicySettings {
    let resource = |name: &str, upstream, is_exempt| PolicyResource {
        name: name.into(),
        upstream: UpstreamId(upstream),
        is_exempt,
    };
    PolicySettings {
        resources: vec![
            resource("calls", 0, false),
            resource("messages", 0, false),
            resource("jobs", 1, false),
            resource("probes", 0, true),
        ],
        upstreams: vec!["api".into(), "bulk".into()],
        groups: vec![PolicyGroup {
            name: "gold".into(),
            accounts: vec![account("gold-1"), account("gold-2")],
            weight: weight_of_gold,
        }],
        limits: limits.to_vec(),
        candidates: Vec::new(),
    }
}

fn limit(name: &str, per: &[Dimension], max: u32) -> LimitSettings {
    let word = |dimension: &Dimension| match dimension {
        Dimension::Account => "account",
        Dimension::Resource => "resource",
        Dimension::Group => "group",
        Dimension::Upstream => "upstream",
        Dimension::ClientNetwork => "client_network",
        Dimension::Process => "process",
        Dimension::Value(_) => "value",
    };
    let mut limit = LimitSettings::new(name, per, max);
    limit.per_names = per.iter().map(|dimension| word(dimension).into()).collect();
    identify(&mut limit);
    limit
}

/// Makes the identity text again after what it is made of was changed.
fn identify(limit: &mut LimitSettings) {
    let LimitSettings {
        name,
        per,
        resources,
        except,
        upstreams,
        counted,
        ..
    } = &*limit;
    limit.identity = format!("{name} {per:?} {resources:?} {except:?} {upstreams:?} {counted:?}");
}

/// The limit, for some resources only.
fn only(mut limit: LimitSettings, resources: &[ResourceId]) -> LimitSettings {
    limit.resources = Some(resources.to_vec());
    identify(&mut limit);
    limit
}

fn in_mode(mut limit: LimitSettings, mode: Mode) -> LimitSettings {
    limit.mode = mode;
    limit
}

fn account(name: &str) -> AccountName {
    AccountName::new(name.as_bytes()).expect("the name is fine")
}

/// A request of cost 1 with nothing but an account and a resource.
fn class(name: &str, resource: ResourceId) -> Class {
    Class {
        account: account(name),
        resource,
        upstream: UpstreamId(u16::from(resource == JOBS)),
        group: name.starts_with("gold-").then_some(GOLD),
        priority: Priority::Normal,
        cost: 1,
        learner: None,
        is_retry: false,
        network: None,
        values: SmallVec::new(),
    }
}

/// How a wait has ended, if it has.
fn look(wait: &mut Wait) -> Option<Turn> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(wait).poll(&mut cx) {
        Poll::Ready(turn) => Some(turn),
        Poll::Pending => None,
    }
}

/// The seeds of a randomised test: `SIM_SEED` alone where it is set, else 0 to `count`.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has no configuration to ask"
)]
pub(super) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}
