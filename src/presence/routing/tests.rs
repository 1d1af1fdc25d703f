//! Who can be rung, told apart by every reason, and who of a destination is.

use super::*;
use crate::clock::Clock;
use crate::presence::registry::arrival::Arrival;
use crate::presence::registry::session::{Moment, Report, Source};
use crate::presence::status::{Order, Status};

struct Desk {
    registry: Registry,
    at: Moment,
    sockets: u64,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Desk {
    fn new() -> Self {
        let at = Moment::of(&Clock::manual());
        let rules = Rules {
            order: Order::default(),
            assume: Status::Offline,
            ring_away: false,
            calls_per_device: 1,
        };
        let grace = std::time::Duration::from_secs(15);
        Self {
            registry: Registry::new(rules, grace, 10, at, 0),
            at,
            sockets: 0,
        }
    }

    fn device(&mut self, identity: &str, device: &str) -> SessionRef {
        self.sockets += 1;
        let arrival = Arrival {
            device: Ok(name(device)),
            app: name("default"),
            socket: SocketId(self.sockets),
            may_receive: true,
            has_audio: device != "mute",
            may_give: true,
            token: None,
            resume: None,
            next_resume: None,
        };
        let connected = self.registry.connect(&name(identity), arrival, self.at);
        connected.unwrap().session
    }

    fn say(&mut self, session: &SessionRef, status: Status) {
        let report = Report::of(status);
        self.registry
            .report(session, report, Source::Socket, self.at);
    }

    fn verdicts(&self, dialled: &str) -> Vec<(String, Verdict)> {
        let target = target(&self.registry, &[], dialled).unwrap();
        let devices = target
            .parties
            .iter()
            .flat_map(|party| devices(&self.registry, party));
        let mut verdicts: Vec<_> = devices
            .map(|device| (device.session.device.as_str().to_owned(), device.verdict))
            .collect();
        verdicts.sort_by(|one, other| one.0.cmp(&other.0));
        verdicts
    }

    fn rung(&self, target: &Target, tried: &[&str]) -> Vec<String> {
        let found: Vec<_> = target
            .parties
            .iter()
            .flat_map(|party| devices(&self.registry, party))
            .collect();
        let chosen = chosen(target, &found, |identity| {
            tried.contains(&identity.as_str())
        });
        let names = chosen.iter().map(|device| {
            let session = &device.session;
            format!("{}/{}", session.identity.as_str(), session.device.as_str())
        });
        names.collect()
    }
}

// B6, B7, B10: each device by itself, and for each that is not rung the reason.
#[test]
fn every_device_has_a_verdict_of_its_own() {
    let mut desk = Desk::new();
    for (device, status) in [
        ("away", Status::Away),
        ("busy", Status::Busy),
        ("dnd", Status::DoNotDisturb),
        ("gone", Status::Unavailable),
        ("free", Status::Available),
    ] {
        let session = desk.device("bob", device);
        desk.say(&session, status);
    }
    desk.device("bob", "mute");
    let lost = desk.device("bob", "lost");
    desk.registry.lose(&lost, desk.at);
    let talking = desk.device("bob", "talking");
    let who = (&talking.identity, &talking.device, &talking.app);
    desk.registry.begin_call(who, true, desk.at);
    let ringing = desk.device("bob", "x-ringing");
    assert!(desk.registry.reserve(&ringing, desk.at));
    assert!(
        !desk.registry.reserve(&ringing, desk.at),
        "one place, one ringing"
    );
    let verdicts = desk.verdicts("bob");
    let expected = [
        ("away", Verdict::Away),
        ("busy", Verdict::Busy),
        ("dnd", Verdict::DoNotDisturb),
        ("free", Verdict::Ring),
        ("gone", Verdict::Unavailable),
        ("lost", Verdict::Suspended),
        ("mute", Verdict::CannotReceive),
        ("talking", Verdict::InCall),
        ("x-ringing", Verdict::InCall),
    ];
    let expected = expected.map(|(device, verdict)| (device.to_owned(), verdict));
    assert_eq!(verdicts, expected);
    desk.registry.release(&ringing, desk.at);
    desk.registry.end_call(who, desk.at);
    let verdicts = desk.verdicts("bob");
    assert_eq!(verdicts[7].1, Verdict::Ring);
    assert_eq!(verdicts[8].1, Verdict::Ring);
    for verdict in verdicts.iter().map(|(_, verdict)| *verdict) {
        assert_eq!(Verdict::of_word(verdict.as_str()), Some(verdict));
    }
}

// B29: a name is tried whole, and only then split.
#[test]
fn a_sub_name_means_one_device_unless_somebody_has_the_whole_name() {
    let mut desk = Desk::new();
    desk.device("bob", "phone");
    desk.device("bob", "desk");
    assert_eq!(desk.verdicts("bob").len(), 2);
    assert_eq!(
        desk.verdicts("bob/phone"),
        [("phone".to_owned(), Verdict::Ring)]
    );
    desk.device("bob/phone", "other");
    assert_eq!(
        desk.verdicts("bob/phone"),
        [("other".to_owned(), Verdict::Ring)]
    );
    assert!(target(&desk.registry, &[], "").is_none());
}

// B8, B9: of a destination all, the first, or the least loaded; who was tried is not tried again.
#[test]
fn a_destination_rings_as_it_chooses() {
    let mut desk = Desk::new();
    let sessions = ["a", "b", "c"].map(|identity| desk.device(identity, "1"));
    let target = |choose| Target {
        parties: ["a", "b", "c"]
            .map(|identity| Party {
                identity: name(identity),
                device: None,
            })
            .into(),
        choose,
    };
    assert_eq!(
        desk.rung(&target(Choose::All), &["a"]),
        ["a/1", "b/1", "c/1"]
    );
    assert_eq!(desk.rung(&target(Choose::InOrder), &[]), ["a/1"]);
    assert_eq!(desk.rung(&target(Choose::InOrder), &["a"]), ["b/1"]);
    desk.say(&sessions[0], Status::Busy);
    assert_eq!(desk.rung(&target(Choose::InOrder), &[]), ["b/1"]);
    desk.say(&sessions[0], Status::Available);
    for (session, calls) in sessions.iter().zip([2, 1, 0]) {
        for _ in 0..calls {
            let who = (&session.identity, &session.device, &session.app);
            desk.registry.begin_call(who, true, desk.at);
            desk.registry.end_call(who, desk.at);
        }
    }
    assert_eq!(desk.rung(&target(Choose::LeastLoaded), &[]), ["c/1"]);
    assert_eq!(desk.rung(&target(Choose::LeastLoaded), &["c"]), ["b/1"]);
    // A call in progress weighs more than all that were.
    let who = (&sessions[2].identity, &name("2"), &name("default"));
    desk.device("c", "2");
    desk.registry.begin_call(who, false, desk.at);
    assert_eq!(desk.rung(&target(Choose::LeastLoaded), &[]), ["b/1"]);
    assert!(
        desk.rung(&target(Choose::LeastLoaded), &["a", "b", "c"])
            .is_empty()
    );
}

// B27: what the caller may be told is the best that was found.
#[test]
fn the_best_status_is_found_by_the_accounts_order() {
    let mut desk = Desk::new();
    let party = |identity| Party {
        identity: name(identity),
        device: None,
    };
    let (a, b) = (desk.device("a", "1"), desk.device("b", "1"));
    desk.say(&a, Status::Away);
    let report = Report {
        text: Some("at lunch".into()),
        ..Report::of(Status::DoNotDisturb)
    };
    desk.registry.report(&b, report, Source::Socket, desk.at);
    let found = best(&desk.registry, &[party("a"), party("b"), party("nobody")]);
    assert_eq!(found, (Status::DoNotDisturb, Some("at lunch".into())));
    assert_eq!(best(&desk.registry, &[]), (Status::Offline, None));
}
