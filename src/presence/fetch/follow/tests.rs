//! Redirects and retries against servers on this machine: who is asked how often, for what, and signed for whom.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use super::hop::{Form, Hop};
use super::*;
use crate::presence::fetch::Limits;
use crate::presence::fetch::loopback::{Server, fields, moved, reach, status, xml};
use crate::presence::fetch::patience::After;

const FORM: &str = "From=client%3Aalice&note=a+b";

fn usual() -> Patience {
    Patience {
        limits: Limits::within(Duration::from_secs(10)),
        retries: 1,
        pause: Duration::from_millis(20),
        after: After {
            unconnected: true,
            ..After::default()
        },
    }
}

async fn ask(reach: &Reach, method: Verb, url: &str) -> Result<Arrived, Lost> {
    let ask = Ask {
        url,
        method,
        fields: &fields(&[("From", "client:alice"), ("note", "a b")]),
        idempotency: "same",
    };
    follow(reach, &mut Jar::default(), &ask, usual(), Wanted::Body(99)).await
}

async fn post(reach: &Reach, url: &str) -> Result<Arrived, Lost> {
    ask(reach, Verb::Post, url).await
}

#[tokio::test]
async fn each_hop_is_signed_for_its_own_url() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/a?b=c" => moved(308, "next?x=1#part"),
        "/next?x=1" => moved(302, "/last"),
        _ => xml("<a/>"),
    });
    let server = server.await;
    let arrived = post(&reach(&[&server], &[]), &server.url("/a?b=c#rc=0")).await;
    let arrived = arrived.unwrap();
    assert_eq!(
        (arrived.url, &*arrived.answer.body),
        (server.url("/last"), &b"<a/>"[..])
    );
    let asked = server.asked();
    let seen: Vec<_> = asked
        .iter()
        .map(|of| (of.method.as_str(), of.path.as_str(), of.body.as_str()))
        .collect();
    let expected = [
        ("POST", "/a?b=c", FORM),
        ("POST", "/next?x=1", FORM),
        ("GET", "/last", ""),
    ];
    assert_eq!(seen, expected);
    for of in asked {
        assert_eq!(of.is_signed(&server.origin()), Some(true), "{}", of.path);
        assert_eq!(of.field("i-twilio-idempotency-token"), Some("same"));
    }
}

#[tokio::test]
async fn a_get_has_the_form_in_its_query() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/moved" => moved(307, "/here"),
        path if path.starts_with("/away") => moved(307, "/moved"),
        _ => xml("<a/>"),
    });
    let (server, reach) = {
        let server = server.await;
        let reach = reach(&[&server], &[]);
        (server, reach)
    };
    for (path, sent) in [
        ("", format!("/?{FORM}")),
        ("/?", format!("/?{FORM}")),
        ("/a?b=c", format!("/a?b=c&{FORM}")),
    ] {
        let url = server.url(path);
        let arrived = ask(&reach, Verb::Get, &url).await.unwrap();
        // What follows is relative to the document, without what one request added.
        assert!(!arrived.url.contains("From"), "{}", arrived.url);
        let asked = &server.asked()[0];
        assert_eq!((asked.method.as_str(), &asked.path), ("GET", &sent));
        assert_eq!(asked.is_signed(&server.origin()), Some(true), "{sent}");
    }
    ask(&reach, Verb::Get, &server.url("/away")).await.unwrap();
    let asked = server.asked();
    assert_eq!(
        (asked[1].path.as_str(), asked[2].path.as_str()),
        ("/moved", "/here")
    );
    assert_eq!(asked[2].is_signed(&server.origin()), Some(true));
}

#[tokio::test]
async fn nothing_is_signed_for_another_origin_nor_on_the_way_back() {
    let home = Server::start(|_, _| xml("<a/>")).await;
    let back = home.url("/back");
    let other = Server::start(move |_, _| moved(307, &back)).await;
    let away = other.url("/x");
    let first = Server::start(move |_, _| moved(307, &away)).await;
    let reach = reach(&[&home, &other, &first], &[]);
    post(&reach, &first.url("/")).await.unwrap();
    assert_eq!(first.asked()[0].is_signed(&first.origin()), Some(true));
    for (server, asked) in [(&other, other.asked()), (&home, home.asked())] {
        assert_eq!(asked[0].is_signed(&server.origin()), None);
        assert_eq!(asked[0].body, FORM, "a 307 keeps what was sent");
    }
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|_, _| moved(303, "/again")).await;
    let lost = post(&reach(&[&server], &[]), &server.url("/")).await;
    let lost = lost.unwrap_err();
    assert_eq!((lost, lost.code()), (Lost::Redirects, 11_215));
    assert_eq!(server.asked().len(), 1 + REDIRECTS_MAX);
    for (reply, code) in [
        (status(302), 11_200),
        (status(304), 11_200),
        (moved(300, "/next"), 11_200),
        (moved(302, "ftp://a/"), 11_210),
        (moved(302, "http://u@a/"), 11_210),
    ] {
        let astray = Server::start(move |_, _| reply.clone()).await;
        let lost = post(&reach(&[&astray], &[]), &astray.url("/")).await;
        assert_eq!(lost.unwrap_err().code(), code);
        assert_eq!(astray.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_does_not_open_what_a_url_does_not() {
    let inside = Server::start(|_, _| xml("<secret/>")).await;
    let port = inside.port;
    let hosts = "127.0.0.1 localhost [::1] [::ffff:127.0.0.1] 2130706433 0177.0.0.1 0x7f.1 127.1 127.0.0.1.";
    for host in hosts.split(' ') {
        let url = format!("http://{host}:{port}/secret");
        let to = url.clone();
        let trusted = Server::start(move |_, _| moved(302, &to)).await;
        let reach = reach(&[&trusted], &[]);
        for lost in [
            post(&reach, &trusted.url("/")).await,
            post(&reach, &url).await,
        ] {
            let lost = lost.unwrap_err();
            assert_eq!(lost.code(), 11_210, "{host}");
            let text = lost.to_string();
            assert!(!text.contains("127") && !text.contains("secret"), "{text}");
        }
    }
    assert!(inside.asked().is_empty());
    let to = inside.url("/");
    let trusted = Server::start(move |_, _| moved(302, &to)).await;
    let both = reach(&[&trusted, &inside], &[]);
    post(&both, &trusted.url("/")).await.unwrap();
    let opened = reach(&[&trusted], &["127.0.0.0/8".parse().unwrap()]);
    post(&opened, &trusted.url("/")).await.unwrap();
    assert_eq!(inside.asked().len(), 2);
}

#[test]
fn what_was_secret_is_not_sent_in_the_clear() {
    let hop = |url: &str| Hop {
        url: url.parse().unwrap(),
        form: Form::Body,
        is_signed: true,
    };
    let to = |location: &'static str| Answer {
        status: StatusCode::PERMANENT_REDIRECT,
        headers: [(
            "location".parse().unwrap(),
            HeaderValue::from_static(location),
        )]
        .into_iter()
        .collect(),
        body: Bytes::new(),
    };
    let lost = hop("https://a/").next(&to("http://a/")).unwrap_err();
    assert_eq!((lost, lost.code()), (Lost::Downgrade, 11_200));
    let next = hop("http://a/").next(&to("https://a/x")).unwrap().unwrap();
    assert!(!next.is_signed, "another scheme is another origin");
    let next = hop("https://a/").next(&to("https://A:443/x")).unwrap();
    assert!(next.unwrap().is_signed);
}

#[tokio::test]
async fn a_connection_is_tried_again() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let reach = reach(&[], &["127.0.0.0/8".parse().unwrap()]);
    let url = format!("http://{address}/#rc=5");
    let (arrived, ()) = tokio::join!(post(&reach, &url), async {
        // The first try is polled first, so it has been refused long before.
        tokio::time::sleep(Duration::from_millis(40)).await;
        let (mut stream, _) = socket.listen(8).unwrap().accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 999]).await.unwrap(), 0);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    arrived.unwrap();
}

#[tokio::test]
async fn a_status_is_tried_again_only_where_the_url_says_so() {
    for (code, word) in [(404, "4xx"), (503, "5xx")] {
        let server = Server::start(move |_, kept| match kept {
            0 | 1 => status(code),
            _ => xml("<a/>"),
        });
        let server = server.await;
        let reach = reach(&[&server], &[]);
        let lost = post(&reach, &server.url("/#rc=5")).await.unwrap_err();
        assert_eq!(lost.code(), 11_200);
        assert_eq!(lost.to_string(), format!("the answer's status is {code}"));
        assert_eq!(server.asked().len(), 1);
        let lost = post(&reach, &server.url(&format!("/#rc=1&rp={word}"))).await;
        assert!(lost.is_err() && server.asked().len() == 2);
        let arrived = post(&reach, &server.url(&format!("/#rc=2&rp=ct,{word}"))).await;
        assert!(arrived.is_ok());
        let asked = server.asked();
        assert_eq!(asked.len(), 3);
        for again in asked {
            assert_eq!(again.field("i-twilio-idempotency-token"), Some("same"));
            assert_eq!(again.body, FORM);
        }
    }
}

#[tokio::test]
async fn a_silent_server_is_asked_again_only_where_the_url_says_so() {
    let server = Server::start(|_, kept| match kept {
        0 => None,
        _ => xml("<a/>"),
    });
    let server = server.await;
    let reach = reach(&[&server], &[]);
    let lost = post(&reach, &server.url("/#rt=100")).await.unwrap_err();
    assert_eq!(
        (lost, lost.code()),
        (Lost::Fetch(FetchError::Silent), 11_205)
    );
    assert_eq!(server.asked().len(), 1);
    let lost = post(&reach, &server.url("/#tt=100&rp=all"))
        .await
        .unwrap_err();
    assert_eq!(
        (lost, lost.code()),
        (Lost::Fetch(FetchError::Timeout), 11_205)
    );
    assert_eq!(server.asked().len(), 1);
    post(&reach, &server.url("/#rt=100&rp=rt")).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

// Whoever began to answer has perhaps done what was asked.
#[tokio::test]
async fn behind_the_first_byte_nothing_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/#rt=100&tt=500&rp=all&rc=5",
        listener.local_addr().unwrap()
    );
    let reach = reach(&[], &["127.0.0.0/8".parse().unwrap()]);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 999]).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 2").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (lost, ()) = tokio::join!(post(&reach, &url), serve);
    assert_eq!(lost.unwrap_err(), Lost::Fetch(FetchError::Timeout));
}
