//! Seeded simulation: requests, releases, sweeps and reloads in random order, against a model that is too simple to err.
//!
//! The model is a map from scope and key to a count, and walks the limits in the promised order. After every step
//! it must agree with the registry on the decision and on every count. A failure prints its seed: `SIM_SEED=7 cargo
//! test simulation` replays it alone. One thread: interleavings are looked for in `exact` and by loom.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use fastrand::Rng;
use proptest::prelude::*;
use smallvec::smallvec;
use tidegate::admission::{
    Class, ClientNetwork, Decision, Dimension, LimitSettings, Mode, Outcome, Permit, ResourceId,
    UpstreamId, Value,
};

use super::{GOLD, World, account, class, identify, limit, seeds};

const SEEDS: u64 = 300;
const STEPS: usize = 200;
const ACCOUNTS: [&str; 5] = ["acme", "other", "third", "gold-1", "gold-2"];
const RESOURCES: [&str; 4] = ["calls", "messages", "jobs", "probes"];

/// A limit of the model, with the names of its two counts.
struct Modelled {
    settings: LimitSettings,
    real: u64,
    paper: u64,
}

/// Scope and key of one count.
type Place = (u64, Vec<String>);

#[derive(Default)]
struct Model {
    limits: Vec<Modelled>,
    counts: HashMap<Place, u32>,
    scopes: u64,
}

/// What the model expects of one request.
#[derive(Debug, PartialEq)]
enum Verdict {
    Admit {
        would_reject: Option<String>,
    },
    Reject {
        limit: String,
        max: u32,
        in_flight: u32,
    },
}

/// A request, with the text that its class keeps as a value.
struct Request {
    class: Class,
    region: &'static str,
}

impl Request {
    fn random(random: &mut Rng) -> Self {
        let resource = ResourceId(random.u16(..4));
        let region = ["eu", "us", "-"][random.usize(..3)];
        let network = random.choice([
            None,
            Some("192.0.2.1"),
            Some("192.0.2.9"),
            Some("2001:db8::1"),
        ]);
        let class = Class {
            cost: random.u32(1..=3),
            network: network
                .flatten()
                .map(|text| ClientNetwork::of(text.parse().expect("an address"))),
            values: smallvec![Value::new((region != "-").then_some(region.as_bytes()))],
            ..class(ACCOUNTS[random.usize(..ACCOUNTS.len())], resource)
        };
        Self { class, region }
    }

    fn key(&self, per: &[Dimension]) -> Vec<String> {
        // A limit with one key has no key to show.
        if per.iter().all(|&dimension| dimension == Dimension::Process) {
            return Vec::new();
        }
        let value = |dimension: &Dimension| match dimension {
            Dimension::Account => self.class.account.to_string(),
            Dimension::Resource => RESOURCES[usize::from(self.class.resource.0)].into(),
            Dimension::Group => self.class.group.map_or("-", |_| "gold").into(),
            Dimension::Upstream => ["api", "bulk"][usize::from(self.class.upstream.0)].into(),
            Dimension::ClientNetwork => self
                .class
                .network
                .map_or_else(|| "-".into(), |network| network.to_string()),
            Dimension::Process => "-".into(),
            Dimension::Value(_) => self.region.into(),
        };
        per.iter().map(value).collect()
    }
}

fn max_for(settings: &LimitSettings, class: &Class) -> u32 {
    let own = settings
        .account_max
        .iter()
        .find(|(name, _)| *name == class.account);
    let of_group = settings
        .group_max
        .iter()
        .find(|(group, _)| Some(*group) == class.group);
    own.map(|(_, max)| *max)
        .or(of_group.map(|(_, max)| *max))
        .unwrap_or(settings.max)
}

impl Model {
    /// Keeps the counts of limits with the same identity; gives the names of those that begin at zero.
    fn reload(&mut self, settings: &[LimitSettings]) -> Vec<String> {
        let old = std::mem::take(&mut self.limits);
        let mut from_zero = Vec::new();
        for settings in settings {
            let same = old
                .iter()
                .find(|of| of.settings.identity == settings.identity);
            let is_off = |settings: &LimitSettings| settings.mode == Mode::Off;
            let had_name = old.iter().any(|of| of.settings.name == settings.name);
            // What is off counts nothing: coming on begins at zero, and going off loses nothing.
            if had_name && !is_off(settings) && same.is_none_or(|same| is_off(&same.settings)) {
                from_zero.push(settings.name.clone());
            }
            let (real, paper) = if let Some(same) = same {
                (same.real, same.paper)
            } else {
                self.scopes += 2;
                (self.scopes, self.scopes + 1)
            };
            self.limits.push(Modelled {
                settings: settings.clone(),
                real,
                paper,
            });
        }
        from_zero
    }

    fn count(&self, place: &Place) -> u32 {
        self.counts.get(place).copied().unwrap_or(0)
    }

    /// Decides, and counts what it admits; gives the places taken.
    fn acquire(&mut self, request: &Request) -> (Verdict, Vec<Place>) {
        let class = &request.class;
        let mut order: Vec<_> = self.limits.iter().enumerate().collect();
        order.retain(|(_, of)| {
            let named = of.settings.resources.as_ref();
            RESOURCES[usize::from(class.resource.0)] != "probes"
                && named.is_none_or(|only| only.contains(&class.resource))
                && !of.settings.except.contains(&class.resource)
                && of
                    .settings
                    .upstreams
                    .as_ref()
                    .is_none_or(|only| only.contains(&class.upstream))
        });
        order.sort_by_key(|(index, of)| (Reverse(of.settings.per.len()), of.settings.max, *index));
        let mut places = Vec::new();
        for (_, of) in order
            .iter()
            .filter(|(_, of)| of.settings.mode == Mode::Enforce)
        {
            let place = (of.real, request.key(&of.settings.per));
            let (in_flight, max) = (self.count(&place), max_for(&of.settings, class));
            if in_flight + class.cost > max {
                let limit = of.settings.name.clone();
                return (
                    Verdict::Reject {
                        limit,
                        max,
                        in_flight,
                    },
                    Vec::new(),
                );
            }
            places.push(place);
        }
        let mut would_reject = None;
        for (_, of) in order
            .iter()
            .filter(|(_, of)| of.settings.mode == Mode::Shadow)
        {
            let key = request.key(&of.settings.per);
            places.push((of.real, key.clone()));
            let paper = (of.paper, key);
            if self.count(&paper) + class.cost <= max_for(&of.settings, class) {
                places.push(paper);
            } else if would_reject.is_none() {
                would_reject = Some(of.settings.name.clone());
            }
        }
        for place in &places {
            *self.counts.entry(place.clone()).or_default() += class.cost;
        }
        (Verdict::Admit { would_reject }, places)
    }

    fn release(&mut self, places: &[Place], cost: u32) {
        for place in places {
            *self.counts.get_mut(place).expect("it was taken") -= cost;
        }
        self.counts.retain(|_, count| *count > 0);
    }
}

/// A permit and what the model knows of it.
struct Held {
    permit: Permit,
    places: Vec<Place>,
    cost: u32,
}

struct Simulation {
    random: Rng,
    world: World,
    model: Model,
    held: Vec<Held>,
    settings: Vec<LimitSettings>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let settings: Vec<_> = (0..4).map(|n| random_limit(&mut random, n)).collect();
        let mut model = Model::default();
        model.reload(&settings);
        Self {
            random,
            world: World::new(&settings),
            model,
            held: Vec::new(),
            settings,
        }
    }

    fn step(&mut self) {
        match self.random.u32(..100) {
            0..60 => self.acquire(),
            60..92 => self.release(),
            92..96 => self.reload(),
            96..98 => self.world.registry.sweep(self.world.clock.now()),
            _ => self
                .world
                .clock
                .advance(std::time::Duration::from_millis(700)),
        }
        self.check();
    }

    fn acquire(&mut self) {
        let request = Request::random(&mut self.random);
        let (wanted, places) = self.model.acquire(&request);
        let verdict = match self.world.acquire(&request.class) {
            Decision::Admit(permit) => {
                let would_reject = permit.would_reject().map(ToString::to_string);
                self.held.push(Held {
                    permit,
                    places,
                    cost: request.class.cost,
                });
                Verdict::Admit { would_reject }
            }
            Decision::Reject(of) => Verdict::Reject {
                limit: of.limit.to_string(),
                max: of.max,
                in_flight: of.in_flight,
            },
            Decision::Wait(wait) => panic!("no limit queues: {wait:?}"),
        };
        assert_eq!(verdict, wanted, "{:?}", request.class);
    }

    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let Held {
            permit,
            places,
            cost,
        } = self.held.swap_remove(self.random.usize(..self.held.len()));
        self.model.release(&places, cost);
        match self.random.u32(..3) {
            0 => drop(permit),
            1 => permit.finish(Outcome::Success, self.world.clock.now()),
            _ => permit.finish(Outcome::Overload, self.world.clock.now()),
        }
    }

    fn reload(&mut self) {
        let (random, settings) = (&mut self.random, &mut self.settings);
        let at = random.usize(..settings.len());
        match random.u32(..7) {
            0 | 1 => settings[at].max = random.u32(..12),
            2 => settings[at].mode = random_mode(random),
            3 => settings[at] = random_limit(random, at),
            4 if settings.len() < 6 => settings.push(random_limit(random, settings.len() + 6)),
            5 if settings.len() > 1 => drop(settings.remove(at)),
            _ => random.shuffle(settings),
        }
        let mut names = HashSet::new();
        settings.retain(|of| names.insert(of.name.clone()));
        let wanted = self.model.reload(&self.settings);
        assert_eq!(self.world.reload(&self.settings), wanted);
    }

    /// Every count of the registry is the model's, and the sum of the permits that are held.
    fn check(&self) {
        for of in &self.model.limits {
            let limit = self
                .world
                .policy
                .limit(&of.settings.name)
                .expect("the model has it too");
            let keys = self
                .world
                .registry
                .keys(&self.world.policy, limit, usize::MAX);
            let keys = keys.into_iter().filter(|key| key.in_flight > 0);
            let values = |key: Vec<(String, String)>| key.into_iter().map(|(_, value)| value);
            let counted: BTreeMap<Vec<_>, _> = keys
                .map(|of| (values(of.key).collect(), of.in_flight))
                .collect();
            let wanted = self
                .model
                .counts
                .iter()
                .filter(|((scope, _), _)| *scope == of.real);
            let wanted = wanted
                .map(|((_, key), &count)| (key.clone(), count))
                .collect();
            assert_eq!(counted, wanted, "{}", of.settings.name);
        }
        let mut places: HashMap<u64, u32> = HashMap::new();
        for (id, count) in self.held.iter().flat_map(|held| held.permit.places()) {
            *places.entry(id).or_default() += count;
        }
        for (id, count) in self.world.counts() {
            assert_eq!(places.get(&id), Some(&count), "a cell and its permits");
        }
        let in_flight = self.world.registry.snapshot(&self.world.policy).in_flight;
        assert_eq!(in_flight, self.held.len() as u64);
    }
}

fn random_mode(random: &mut Rng) -> Mode {
    match random.u32(..10) {
        0..6 => Mode::Enforce,
        6..9 => Mode::Shadow,
        _ => Mode::Off,
    }
}

fn random_limit(random: &mut Rng, number: usize) -> LimitSettings {
    let all = [
        Dimension::Account,
        Dimension::Resource,
        Dimension::Group,
        Dimension::Upstream,
        Dimension::ClientNetwork,
        Dimension::Process,
        Dimension::Value(0),
    ];
    let count = random.usize(..=3);
    let per = random.choose_multiple(all, count);
    let mut limit = limit(&format!("limit-{number}"), &per, random.u32(..12));
    // An override of a key's maximum means something only where the key has that dimension.
    if per.contains(&Dimension::Account) {
        limit.account_max = vec![(account("acme"), random.u32(..12)), (account("gold-1"), 5)];
    }
    if per.contains(&Dimension::Group) {
        limit.group_max = vec![(GOLD, random.u32(..12))];
    }
    match random.u32(..5) {
        0 => limit.resources = Some(vec![ResourceId(0), ResourceId(2)]),
        1 => limit.except = vec![ResourceId(1)],
        2 => limit.upstreams = Some(vec![UpstreamId(1)]),
        _ => {}
    }
    limit.mode = random_mode(random);
    identify(&mut limit);
    limit
}

/// Prints the seed of a simulation that fails.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    #[expect(
        clippy::print_stderr,
        reason = "the seed is what a failure is replayed with"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with SIM_SEED={}", self.0);
        }
    }
}

// A3, A8, A11, G1, G3, G4: over any mix of limits, releases and reloads, every decision and count is the model's.
#[test]
fn a_simulation_with_reloads_agrees_with_its_model() {
    for seed in seeds(SEEDS) {
        let seed = Seed(seed);
        let mut simulation = Simulation::new(seed.0);
        (0..STEPS).for_each(|_| simulation.step());
        simulation.held.clear();
        simulation.world.assert_empty();
        simulation
            .world
            .registry
            .sweep(simulation.world.clock.now());
        simulation
            .world
            .registry
            .sweep(simulation.world.clock.now());
        assert_eq!(simulation.world.registry.cells(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // A2, A3, G1: what a limit shows over all keys is the sum of what was admitted and not yet given back.
    #[test]
    fn totals_are_the_sum_of_the_permits(
        asked in prop::collection::vec((0..5usize, 0..3u16, 1..4u32, any::<bool>()), 1..80),
    ) {
        let world = World::new(&[
            limit("pair", &[Dimension::Account, Dimension::Resource], 9),
            limit("account", &[Dimension::Account], 15),
            limit("whole", &[], 40),
        ]);
        let mut held = Vec::new();
        for (name, resource, cost, is_kept) in asked {
            let class = Class { cost, ..class(ACCOUNTS[name], ResourceId(resource)) };
            if let Decision::Admit(permit) = world.acquire(&class) && is_kept {
                held.push((permit, u64::from(cost)));
            }
            let total: u64 = held.iter().map(|(_, cost)| cost).sum();
            let snapshot = world.registry.snapshot(&world.policy);
            prop_assert!(snapshot.limits.iter().all(|of| of.in_flight == total));
            prop_assert_eq!(snapshot.in_flight, held.len() as u64);
            prop_assert!(snapshot.limits.iter().all(|of| of.used_ratio <= 1.0));
        }
        drop(held);
        world.assert_empty();
    }
}
