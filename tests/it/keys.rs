//! What a limit can count on: each dimension and some combinations, end to end.

use crate::support::client::{self, Connection, Fields, by};
use crate::support::origin::held_origin;
use crate::support::sidecar::sidecar;

/// A path and the fields of a request.
type Sent = (&'static str, Fields<'static>);

const A: Fields<'_> = &[("x-account", "A")];
const B: Fields<'_> = &[("x-account", "B")];
const G1: Fields<'_> = &[("x-account", "G1")];
const G2: Fields<'_> = &[("x-account", "G2")];
const H1: Fields<'_> = &[("x-account", "H1")];
const SUB_A: Fields<'_> = &[("x-sub", "s"), ("x-account", "A")];
const SUB_B: Fields<'_> = &[("x-sub", "s"), ("x-account", "B")];
const OTHER_SUB: Fields<'_> = &[("x-sub", "t"), ("x-account", "A")];

/// What is counted on, two requests that share a key, one that has another, and the status of the refusal.
#[rustfmt::skip]
const KEYED: [(&str, Sent, Sent, Option<Sent>, u16); 10] = [
    ("[account]", ("/x/1", A), ("/y/2", A), Some(("/x/1", B)), 429),
    ("[resource]", ("/x/1", A), ("/x/2", B), Some(("/y/1", A)), 503),
    ("[account, resource]", ("/x/1", A), ("/x/2", A), Some(("/y/1", A)), 429),
    ("[group]", ("/x/1", G1), ("/x/2", G2), Some(("/x/1", H1)), 429),
    ("[{ header: x-sub }]", ("/x/1", SUB_A), ("/y/2", SUB_B), Some(("/x/1", OTHER_SUB)), 429),
    ("[{ path: id }]", ("/x/1", A), ("/y/1", B), Some(("/x/2", A)), 429),
    ("[upstream]", ("/x/1", A), ("/y/2", B), None, 503),
    ("[process]", ("/x/1", A), ("/y/2", B), None, 503),
    ("[client_network]", ("/x/1", A), ("/y/2", B), None, 429),
    ("[]", ("/x/1", A), ("/y/2", B), None, 503),
];

// A7: each dimension, and combinations, end to end.
#[tokio::test]
async fn keys_are_made_of_any_dimension() {
    for (per, holder, sharer, apart, status) in KEYED {
        let origin = held_origin();
        let yaml = format!(
            "resources:\n\
             - {{ name: x, match: {{ path: \"/x/{{id}}\" }}, upstream: api }}\n\
             - {{ name: y, match: {{ path: \"/y/{{id}}\" }}, upstream: api }}\n\
             accounts: {{ identify: [{{ header: x-account }}], groups: \
             {{ g: {{ accounts: [G1, G2] }}, h: {{ accounts: [H1] }} }} }}\n\
             limits: [{{ name: it, per: {per}, max: 1 }}]"
        );
        let gate = sidecar(&yaml).before(&origin).start().await;
        let mut client = gate.connect().await;
        client.send_get(holder.0, holder.1).await;
        origin.until_in_flight(1).await;
        let refused = client::get(&gate.address, sharer.0, sharer.1).await;
        assert_eq!(refused.status, status, "{per}: {}", refused.text());
        if let Some((path, fields)) = apart {
            let mut other = gate.connect().await;
            other.send_get(path, fields).await;
            origin.until_in_flight(2).await;
        }
        origin.open();
    }
}

// A7: another network of clients has places of its own, and a header left away evades nothing.
#[tokio::test]
async fn networks_and_absent_values_are_keys_too() {
    let origin = held_origin();
    let gate = sidecar("limits: [{ name: it, per: [client_network], max: 1 }]").before(&origin);
    let gate = gate.start().await;
    let mut near = Connection::open_from("127.0.0.1", &gate.address).await;
    near.send_get("/", &[]).await;
    origin.until_in_flight(1).await;
    let refused = Connection::open_from("127.0.0.77", &gate.address)
        .await
        .get("/", &[])
        .await;
    assert_eq!(refused.status, 429);
    let mut far = Connection::open_from("127.0.9.1", &gate.address).await;
    far.send_get("/", &[]).await;
    origin.until_in_flight(2).await;

    gate.reloaded_with("limits: [{ name: by-sub, per: [{ header: x-sub }], max: 1 }]")
        .await;
    let mut without = gate.connect().await;
    without.send_get("/", &by("A")).await;
    origin.until_in_flight(3).await;
    assert_eq!(gate.get("/", "B").await.status, 429);
    origin.open();
}
