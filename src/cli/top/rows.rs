//! Which things a panel lists, and in which order.
//!
//! The one place that filters and sorts, so that the arrows move over what is shown.

use std::cmp::Reverse;

use super::seen::{Account, Endpoint, Limit, Request, Upstream};
use super::state::{Order, Panel, State};

impl State {
    /// What a selection of that panel can be, in the order of the rows.
    pub(super) fn ids(&self, panel: Panel) -> Vec<String> {
        match panel {
            Panel::Limits => owned(self.limits().iter().map(|limit| &*limit.name)),
            Panel::Accounts => owned(self.accounts().iter().map(|of| &*of.account)),
            Panel::Upstreams => {
                let endpoints = self.endpoints().into_iter();
                endpoints
                    .map(|(of, endpoint)| endpoint_id(of, endpoint))
                    .collect()
            }
            Panel::Requests => {
                let requests = self.requests().into_iter();
                requests.map(|request| request.id.to_string()).collect()
            }
        }
    }

    pub(super) fn limits(&self) -> Vec<&Limit> {
        let seen = self.seen.iter().flat_map(|(_, seen)| &seen.limits);
        let mut limits: Vec<_> = seen.collect();
        match self.order(Panel::Limits) {
            Order::Use => limits.sort_by(|a, b| b.used().total_cmp(&a.used())),
            Order::Refused => {
                let rate = |limit: &Limit| self.history.refused_by(&limit.name).unwrap_or(0.0);
                limits.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
            }
            Order::Queued => limits.sort_by_key(|limit| Reverse(limit.queued)),
            _ => {}
        }
        limits
    }

    pub(super) fn accounts(&self) -> Vec<&Account> {
        let seen = self.seen.iter().flat_map(|(_, seen)| &seen.accounts);
        let mut accounts: Vec<_> = seen.filter(|of| self.shows(&of.account)).collect();
        match self.order(Panel::Accounts) {
            Order::Peak => accounts.sort_by_key(|of| Reverse(of.peak)),
            Order::Name => accounts.sort_by_key(|of| &of.account),
            _ => accounts.sort_by_key(|of| Reverse((of.in_flight, of.peak))),
        }
        accounts
    }

    pub(super) fn endpoints(&self) -> Vec<(&Upstream, &Endpoint)> {
        let seen = self.seen.iter().flat_map(|(_, seen)| &seen.upstreams);
        seen.flat_map(|upstream| upstream.endpoints.iter().map(move |of| (upstream, of)))
            .collect()
    }

    pub(super) fn requests(&self) -> Vec<&Request> {
        let seen = self.seen.iter().flat_map(|(_, seen)| {
            let of = &seen.requests;
            [&of.waiting, &of.holding, &of.leases]
        });
        let mut requests: Vec<_> = seen
            .flatten()
            .filter(|of| self.shows(&of.account))
            .collect();
        requests.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds));
        // What changed its state between two answers of one look is in both.
        let mut known = std::collections::BTreeSet::new();
        requests.retain(|request| known.insert(request.id));
        match self.order(Panel::Requests) {
            Order::State => requests.sort_by_key(|request| state_rank(&request.state)),
            Order::Account => requests.sort_by_key(|request| &request.account),
            _ => {}
        }
        requests
    }

    fn shows(&self, account: &str) -> bool {
        account.contains(&*self.filter)
    }
}

/// What names an endpoint among all.
pub(super) fn endpoint_id(upstream: &Upstream, endpoint: &Endpoint) -> String {
    format!("{} {}", &*upstream.name, &*endpoint.address)
}

fn owned<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

/// Those that wait first, then those that hold places.
fn state_rank(state: &str) -> usize {
    let states = ["queued", "forwarded", "streaming", "tunnel", "lease"];
    let known = states.iter().position(|known| *known == state);
    known.unwrap_or(states.len())
}
