//! One run: an event queue, a manual clock and a seed drive requests through the real domain.
//!
//! A task is what a client wants; each of its attempts is one request. An attempt whose client has given up goes on at the
//! backend and keeps its places until it is done there. Waits are looked at only when they were woken, so a lost wake-up shows:
//! whoever gives up must not have been served before. The same seed gives the same run. Never sleeps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use tidegate::admission::{Decision, Outcome, Permit, Rejection, Turn, Wait};

use super::backend::Backend;
use super::file::{Client, Scenario};
use super::gate::Gate;
use super::tally::{Ending, Run, Task};

/// A client that comes again at once takes a round trip for it.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// As in the running gate.
const TICK: Duration = Duration::from_secs(1);

/// What happens next; of two at the same time, what was planned first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Void if the client's rate has changed since.
    Arrive {
        client: usize,
        drawn: u64,
    },
    Ask {
        task: usize,
    },
    /// A wait's deadline.
    GiveUp {
        attempt: usize,
    },
    /// The client waits no longer.
    Leave {
        attempt: usize,
    },
    /// The backend is done with something. Void if it was looked at since.
    Finish {
        drawn: u64,
    },
    Change {
        index: usize,
    },
    Tick,
}

enum State {
    Waiting(Wait),
    Serving(Permit),
    Over,
}

struct Attempt {
    task: usize,
    state: State,
    is_left: bool,
}

/// Which attempts were woken.
struct Woken(Arc<Mutex<Vec<usize>>>, usize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.lock().push(self.1);
    }
}

pub(super) struct Simulation<'a> {
    scenario: &'a Scenario,
    clients: Vec<&'a Client>,
    /// How often each client asks, and when its next arrival was drawn.
    rates: Vec<(f64, u64)>,
    gate: Gate,
    started: Instant,
    now: Duration,
    random: Rng,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    planned: u64,
    attempts: Vec<Attempt>,
    woken: Arc<Mutex<Vec<usize>>>,
    waiting: usize,
    backend: Backend,
    backend_drawn: u64,
    run: Run,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        // The domain samples hold times by the thread's own generator.
        fastrand::seed(seed);
        let gate = Gate::new(scenario);
        let clients: Vec<_> = scenario.clients.values().collect();
        let mut simulation = Self {
            rates: clients.iter().map(|client| (client.rate, 0)).collect(),
            clients,
            started: gate.clock.now(),
            now: Duration::ZERO,
            random: Rng::with_seed(seed),
            events: BinaryHeap::new(),
            planned: 0,
            attempts: Vec::new(),
            woken: Arc::default(),
            waiting: 0,
            backend: Backend::new(scenario.backend),
            backend_drawn: 0,
            run: Run::default(),
            gate,
            scenario,
        };
        for client in 0..simulation.clients.len() {
            simulation.draw_arrival(client);
        }
        for (index, event) in scenario.events.iter().enumerate() {
            simulation.plan(event.at.0, Event::Change { index });
        }
        simulation.plan(TICK, Event::Tick);
        simulation
    }

    /// Runs until nothing is left to happen.
    pub(super) fn run(mut self) -> Run {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.gate.clock.advance(at - self.now);
            self.now = at;
            self.happen(event);
            self.look_at_woken();
            assert_eq!(self.gate.registry.waiting(), self.waiting);
        }
        self.gate.assert_empty();
        self.run
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn instant(&self) -> Instant {
        self.started + self.now
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { client, drawn } if drawn == self.rates[client].1 => self.arrive(client),
            Event::Finish { drawn } if drawn == self.backend_drawn => self.finish(),
            Event::Arrive { .. } | Event::Finish { .. } => {}
            Event::Ask { task } => self.ask(task),
            Event::GiveUp { attempt } => self.give_up(attempt),
            Event::Leave { attempt } => self.leave(attempt),
            Event::Change { index } => self.change(index),
            Event::Tick => {
                self.gate.tick(self.instant());
                if !self.events.is_empty() {
                    self.plan(self.now + TICK, Event::Tick);
                }
            }
        }
    }

    /// The next arrival, as long as requests arrive.
    fn draw_arrival(&mut self, client: usize) {
        let (rate, drawn) = self.rates[client];
        if rate == 0.0 {
            return;
        }
        let mean = Duration::from_secs(1).div_f64(rate);
        let is_even = self.clients[client].evenly;
        let at = self.now
            + if is_even {
                mean
            } else {
                self.exponential(mean)
            };
        if at < self.scenario.duration.0 {
            self.plan(at, Event::Arrive { client, drawn });
        }
    }

    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.random.f64()).ln())
    }

    fn arrive(&mut self, client: usize) {
        let account = self.random.usize(..self.gate.classes[client].len());
        self.run.tasks.push(Task {
            client,
            account,
            began: self.now,
            attempts: 0,
            is_marked: false,
            work: Duration::ZERO,
            ended: None,
        });
        self.ask(self.run.tasks.len() - 1);
        self.draw_arrival(client);
    }

    fn ask(&mut self, task: usize) {
        let of = &mut self.run.tasks[task];
        of.attempts += 1;
        let (client, account) = (of.client, of.account);
        let attempt = self.attempts.len();
        self.attempts.push(Attempt {
            task,
            state: State::Over,
            is_left: false,
        });
        let now = self.instant();
        let patience = self.clients[client].patience;
        if let Some(patience) = patience {
            self.plan(self.now + patience.0, Event::Leave { attempt });
        }
        let told = patience.filter(|_| self.clients[client].tells);
        let deadline = told.map(|patience| now + patience.0);
        let gate = &self.gate;
        let class = &gate.classes[client][account];
        let decision = gate
            .registry
            .acquire_until(&gate.policy, class, || deadline, now);
        self.take(attempt, decision);
    }

    fn take(&mut self, attempt: usize, decision: Decision) {
        match decision {
            Decision::Admit(permit) => self.serve(attempt, permit),
            Decision::Reject(rejection) => self.refuse(attempt, &rejection),
            Decision::Wait(wait) => {
                let deadline = wait.deadline() - self.started;
                self.attempts[attempt].state = State::Waiting(wait);
                self.waiting += 1;
                self.plan(deadline, Event::GiveUp { attempt });
                self.look(attempt);
            }
        }
    }

    /// Looks how a wait has ended, if it has.
    fn look(&mut self, attempt: usize) {
        let State::Waiting(wait) = &mut self.attempts[attempt].state else {
            return;
        };
        let waker = Waker::from(Arc::new(Woken(Arc::clone(&self.woken), attempt)));
        if let Poll::Ready(turn) = Pin::new(wait).poll(&mut Context::from_waker(&waker)) {
            self.attempts[attempt].state = State::Over;
            self.waiting -= 1;
            self.go_on(attempt, turn);
        }
    }

    fn look_at_woken(&mut self) {
        loop {
            let woken = std::mem::take(&mut *self.woken.lock());
            if woken.is_empty() {
                return;
            }
            woken.into_iter().for_each(|attempt| self.look(attempt));
        }
    }

    fn go_on(&mut self, attempt: usize, turn: Turn) {
        let decision = match turn {
            Turn::Admit(permit) => Decision::Admit(permit),
            Turn::Reject(rejection) => Decision::Reject(rejection),
            Turn::Resume(ask) => self.gate.registry.resume(ask, self.instant()),
            Turn::Renew(_) => unreachable!("no scenario takes a limit away"),
        };
        self.take(attempt, decision);
    }

    fn give_up(&mut self, attempt: usize) {
        let now = self.instant();
        let known = &mut self.attempts[attempt];
        // One that waits anew since has another deadline.
        match std::mem::replace(&mut known.state, State::Over) {
            State::Waiting(wait) if wait.deadline() <= now => {
                self.waiting -= 1;
                let turn = wait.give_up();
                let is_resumed = matches!(turn, Turn::Resume(_));
                assert!(is_resumed, "it was not woken when its wait ended");
                self.go_on(attempt, turn);
            }
            other => known.state = other,
        }
    }

    fn serve(&mut self, attempt: usize, mut permit: Permit) {
        permit.begin(self.instant());
        let task = self.attempts[attempt].task;
        let is_marked = permit.story().is_some_and(|story| story.mark.is_some());
        self.run.tasks[task].is_marked |= is_marked;
        self.run.hold(task, self.cost(task), self.now);
        let client = self.clients[self.run.tasks[task].client];
        let work = if client.varies {
            self.exponential(client.work.0)
        } else {
            client.work.0
        };
        self.run.tasks[task].work = work;
        self.attempts[attempt].state = State::Serving(permit);
        self.backend.start(attempt, work, self.now);
        self.draw_finish();
    }

    fn cost(&self, task: usize) -> f64 {
        let Task {
            client, account, ..
        } = self.run.tasks[task];
        f64::from(self.gate.classes[client][account].cost)
    }

    fn draw_finish(&mut self) {
        self.backend_drawn += 1;
        if let Some(at) = self.backend.next() {
            let drawn = self.backend_drawn;
            self.plan(at, Event::Finish { drawn });
        }
    }

    fn finish(&mut self) {
        while let Some(attempt) = self.backend.finish(self.now) {
            let known = &mut self.attempts[attempt];
            let State::Serving(mut permit) = std::mem::replace(&mut known.state, State::Over)
            else {
                unreachable!("the backend works for those who hold places");
            };
            let (task, is_left) = (known.task, known.is_left);
            self.run.hold(task, -self.cost(task), self.now);
            if !is_left {
                self.end(task, Ending::Completed);
            }
            permit.answered(Outcome::Success, None, self.instant());
            permit.finish(Outcome::Success, self.instant());
        }
        self.draw_finish();
    }

    fn end(&mut self, task: usize, ending: Ending) {
        self.run.tasks[task].ended = Some((ending, self.now));
    }

    fn refuse(&mut self, attempt: usize, rejection: &Rejection) {
        let task = self.attempts[attempt].task;
        let advice = rejection.retry_after(self.random.f64());
        let client = self.clients[self.run.tasks[task].client];
        let delay = if client.heeds_advice {
            Duration::from_secs(u64::from(advice))
        } else {
            ROUND_TRIP
        };
        self.come_again(task, delay, Ending::Refused);
    }

    /// The client of an attempt waits no longer. It leaves a queue; what the backend has goes on.
    fn leave(&mut self, attempt: usize) {
        let known = &mut self.attempts[attempt];
        match known.state {
            State::Over => return,
            State::Waiting(_) => {
                known.state = State::Over;
                self.waiting -= 1;
            }
            State::Serving(_) => known.is_left = true,
        }
        let task = known.task;
        self.come_again(task, ROUND_TRIP, Ending::GaveUp);
    }

    fn come_again(&mut self, task: usize, delay: Duration, ending: Ending) {
        let Task {
            client, attempts, ..
        } = self.run.tasks[task];
        if attempts <= self.clients[client].retries {
            self.plan(self.now + delay, Event::Ask { task });
        } else {
            self.end(task, ending);
        }
    }

    fn change(&mut self, index: usize) {
        let scenario = self.scenario;
        let event = &scenario.events[index];
        for (name, rate) in &event.rates {
            let client = scenario.clients.keys().position(|known| known == name);
            let client = client.expect("the client is there");
            self.rates[client] = (*rate, self.planned);
            self.draw_arrival(client);
        }
        self.gate.change(event);
        if let Some(places) = event.backend {
            self.backend.resize(places, self.now);
            self.draw_finish();
        }
    }
}
