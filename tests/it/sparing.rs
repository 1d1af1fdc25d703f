//! Counting that spares, at a real gate: `sample`, which counts one request of several, and `when`, by which a limit holds only
//! under pressure.

use std::io;

use crate::support::client::{Connection, by};
use crate::support::origin::{Exchange, Next, Origin};
use crate::support::sidecar::{Sidecar, sidecar};

/// Answers at once and ends its answer when the test says so: the client learns that it was admitted, and holds its place.
fn lingering() -> Origin {
    Origin::start(async |exchange: &mut Exchange| -> io::Result<Next> {
        exchange.body().await?;
        exchange
            .raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            .await?;
        exchange.hold().await?;
        exchange.raw("ok").await
    })
}

/// A request that was admitted and holds its place, or the answer of the one that was not.
async fn ask(gate: &Sidecar, account: &str) -> Result<Connection, serde_json::Value> {
    let mut client = gate.connect().await;
    client.send_get("/", &by(account)).await;
    let (status, head) = client.head().await;
    if status == 200 {
        return Ok(client);
    }
    let framing = crate::support::wire::Framing::of_response(&head, status, "GET");
    let body = client.wire.body(framing).await.unwrap();
    Err(serde_json::from_slice(&body.bytes).unwrap())
}

// A30: one request of five is counted and stands for all of them; what is told is in places, and all of it is given back.
#[tokio::test]
async fn a_sampled_limit_refuses_about_where_it_should() {
    let origin = lingering();
    let yaml = "limits: [{ name: sampled, per: [], max: 50, sample: 5 }]";
    let gate = sidecar(yaml).before(&origin).start().await;
    let mut held = Vec::new();
    let refusal = loop {
        // Ten samples come after 50 requests, with a deviation of 14; among 400 there are 80, with one of 8.
        assert!(held.len() < 400, "it never refuses");
        match ask(&gate, "A").await {
            Ok(client) => held.push(client),
            Err(refusal) => break refusal,
        }
    };
    assert!(held.len() >= 10, "{} of 50", held.len());
    assert_eq!(refusal["limit"], "sampled");
    assert_eq!(refusal["max"], 50);
    assert_eq!(refusal["in_flight"], 50);
    assert_eq!(gate.limit("sampled").await["in_flight"], 50);
    assert_eq!(
        gate.get_admin("/v1/status").await["in_flight"],
        held.len(),
        "what is in flight in all is exact"
    );
    origin.open();
    gate.until_idle().await;
}

// A30: a limit on accounts bites once half of the whole is taken, by what it counted all along, and lets go when that is over.
#[tokio::test]
async fn a_limit_under_pressure_holds_only_while_the_other_is_nearly_full() {
    let origin = lingering();
    let yaml = "limits:\n  \
                - { name: whole, per: [], max: 6 }\n  \
                - { name: account, per: [account], max: 1, when: { limit: whole, percent: 50 } }";
    let gate = sidecar(yaml).before(&origin).start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(ask(&gate, "A").await.expect("there is no pressure"));
    }
    let refusal = ask(&gate, "A").await.expect_err("half is taken");
    assert_eq!(refusal["limit"], "account");
    assert_eq!(
        (&refusal["max"], &refusal["in_flight"]),
        (&1.into(), &3.into())
    );
    held.push(ask(&gate, "B").await.expect("it has nothing in flight"));
    drop(held.drain(..2));
    gate.wait_until("two to be gone", |status| status["in_flight"] == 2)
        .await;
    held.push(ask(&gate, "A").await.expect("the pressure is over"));
    origin.open();
    gate.until_idle().await;
}
