//! Independent clients and servers agree that the gate speaks HTTP.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::origin::{Exchange, Origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::tls::Authority;
use crate::support::tools::{CURL, H2LOAD, NGINX, Running, WRK, said};
use crate::support::{eventually, within};

const LIMITS: &str = "limits: [{ name: account, per: [account], max: 500 }]\n";

async fn curl(arguments: &[&str]) -> String {
    let mut all = vec!["--silent", "--show-error", "--max-time", "20"];
    all.extend(arguments);
    let output = CURL.run(&all).await;
    assert!(output.status.success(), "{all:?}: {}", said(&output));
    said(&output)
}

// Curl in each of its ways, plain.
#[tokio::test]
async fn curl_agrees() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        let body = exchange.body().await?;
        let told = format!("{} {}", exchange.method(), body.bytes.len());
        let length = told.len();
        exchange
            .raw(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
            ))
            .await?;
        match exchange.method() {
            "HEAD" => Ok(crate::support::origin::Next::Keep),
            _ => exchange.raw(&told).await,
        }
    });
    let gate = sidecar(&format!(
        "server: {{ threads: 2, listeners: [{{ address: \"127.0.0.1:0\" }}, {{ address: \"unix:$DIR/gate.sock\" }}] }}\n{LIMITS}"
    ));
    let gate = gate.before(&origin).start().await;
    let url = format!("http://{}/x", gate.address);
    let upload = gate.directory().join("upload");
    std::fs::write(&upload, vec![b'x'; 3_000_000]).unwrap();
    let upload = format!("@{}", upload.display());
    let socket = gate.directory().join("gate.sock").display().to_string();
    let table: &[(&[&str], &str)] = &[
        (&[&url], "GET 0"),
        (&["--http1.0", &url], "GET 0"),
        (&["--http2", &url], "GET 0"),
        (&["--http2-prior-knowledge", &url], "GET 0"),
        // Long enough for curl to expect a 100 first.
        (&["--data-binary", &upload, &url], "POST 3000000"),
        (
            &["--data-binary", &upload, "--http2-prior-knowledge", &url],
            "POST 3000000",
        ),
        (
            &[
                "--data-binary",
                &upload,
                "--header",
                "transfer-encoding: chunked",
                &url,
            ],
            "POST 3000000",
        ),
        (&["--request", "DELETE", &url], "DELETE 0"),
        (&["--unix-socket", &socket, "http://gate.test/x"], "GET 0"),
    ];
    for (arguments, expected) in table {
        assert_eq!(curl(arguments).await, *expected, "{arguments:?}");
    }
    let head = curl(&["--head", &url]).await.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 200") && head.contains("x-concurrent-requests: 1"),
        "{head}"
    );
    gate.until_idle().await;
}

/// A gate with TLS, and the authority of its certificate.
async fn with_tls(origin: &Origin) -> (Sidecar, Authority) {
    let plan = sidecar(&format!(
        "server: {{ threads: 2, listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificate: \"$DIR/one.crt\", \
         private_key: \"$DIR/one.key\" }} }}] }}\n{LIMITS}"
    ));
    let authority = Authority::new(plan.directory());
    authority.sign("one", "one.test");
    (plan.before(origin).start().await, authority)
}

// Curl and h2load over TLS.
#[tokio::test]
async fn curl_and_h2load_agree_over_tls() {
    let origin = origin();
    let (gate, authority) = with_tls(&origin).await;
    let port = gate
        .address
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let resolve = format!("one.test:{port}:127.0.0.1");
    let url = format!("https://one.test:{port}/");
    let ca = authority.path("ca.crt");
    let tls = [
        "--cacert",
        &ca,
        "--resolve",
        &resolve,
        "--write-out",
        " %{http_version}",
    ];
    for (protocol, expected) in [
        ("--http1.1", "ok 1.1"),
        ("--http2", "ok 2"),
        ("--tlsv1.3", "ok 2"),
    ] {
        let mut arguments = tls.to_vec();
        arguments.extend([protocol, &url]);
        assert_eq!(curl(&arguments).await, expected);
    }
    h2load(&format!("https://127.0.0.1:{port}/")).await;
    gate.until_idle().await;
}

async fn h2load(url: &str) {
    let output = H2LOAD
        .run(&[
            "-n",
            "3000",
            "-c",
            "8",
            "-m",
            "10",
            "-H",
            "x-account: A",
            url,
        ])
        .await;
    let text = said(&output);
    assert!(
        text.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{text}"
    );
    assert!(text.contains("3000 2xx"), "{text}");
}

// The load generators see no error, and the counts are whole afterwards.
#[tokio::test]
async fn wrk_and_h2load_agree() {
    let origin = origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let url = format!("http://{}/", gate.address);
    let output = WRK
        .run(&["-t1", "-c32", "-d2s", "-H", "x-account: A", &url])
        .await;
    let text = said(&output);
    assert!(text.contains("Requests/sec"), "{text}");
    assert!(
        !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "{text}"
    );
    h2load(&url).await;
    gate.until_idle().await;
}

// A33: a WebSocket client and server of another project, through the gate.
#[tokio::test]
async fn websockets_agree() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    let gate =
        sidecar("limits: [{ name: account, per: [account], max: 10 }]").before_address(&address);
    let gate = gate.start().await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let stream = TcpStream::connect(&gate.address).await.unwrap();
        let opened = tokio_tungstenite::client_async("ws://gate.test/socket", stream);
        sockets.push(within("the handshake", opened).await.unwrap().0);
    }
    assert_eq!(gate.limit("account").await["in_flight"], 10);
    let stream = TcpStream::connect(&gate.address).await.unwrap();
    assert!(
        tokio_tungstenite::client_async("ws://gate.test/socket", stream)
            .await
            .is_err()
    );
    let socket = &mut sockets[0];
    let large = Message::binary(vec![7u8; 3_000_000]);
    socket.send(large.clone()).await.unwrap();
    assert_eq!(
        within("the large echo", socket.next())
            .await
            .unwrap()
            .unwrap(),
        large
    );
    let (mut sink, mut source) = sockets.swap_remove(0).split();
    let sending = async {
        for index in 0..2_000 {
            sink.send(Message::text(index.to_string())).await.unwrap();
        }
        let close = CloseFrame {
            code: CloseCode::Normal,
            reason: "done".into(),
        };
        sink.send(Message::Close(Some(close))).await.unwrap();
    };
    let receiving = async {
        for index in 0..2_000 {
            let message = within("an echo", source.next()).await.unwrap().unwrap();
            assert_eq!(message, Message::text(index.to_string()));
        }
        let closed = within("the close", source.next()).await.unwrap().unwrap();
        assert!(matches!(closed, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    };
    tokio::join!(sending, receiving);
    drop(sockets);
    gate.until_idle().await;
    server.abort();
}

pub(crate) async fn nginx(directory: &std::path::Path) -> (Running, String) {
    let shown = directory.display();
    std::fs::write(directory.join("large"), "0123456789".repeat(500_000)).unwrap();
    // One process under the test's own user, so that it can read and write here and nowhere else.
    let text = format!(
        "daemon off; master_process off; pid {shown}/nginx.pid; error_log stderr error; events {{}}\n\
         http {{ access_log off; client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy;\n\
         fastcgi_temp_path {shown}/fastcgi; uwsgi_temp_path {shown}/uwsgi; scgi_temp_path {shown}/scgi;\n\
         client_max_body_size 1m; keepalive_timeout 60s;\n\
         server {{ listen unix:{shown}/nginx.sock; root {shown};\n\
         location = / {{ return 200 \"nginx\"; }} location = /gone {{ return 410; }} }} }}\n"
    );
    let config = directory.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let running = NGINX.spawn(&[
        "-p",
        &shown.to_string(),
        "-c",
        &config.display().to_string(),
    ]);
    eventually("nginx", async || directory.join("nginx.sock").exists()).await;
    (running, format!("unix:{shown}/nginx.sock"))
}

// Nginx as the origin, with ranges, conditions, compression off, errors, and an early 413.
#[tokio::test]
async fn nginx_agrees_as_the_origin() {
    let directory = tempfile::tempdir().unwrap();
    let (_running, address) = nginx(directory.path()).await;
    let gate = sidecar(LIMITS).before_address(&address).start().await;
    let url = |path: &str| format!("http://{}{path}", gate.address);
    assert_eq!(curl(&[&url("/")]).await, "nginx");
    assert_eq!(
        curl(&["--http2-prior-knowledge", &url("/large")])
            .await
            .len(),
        5_000_000
    );
    assert_eq!(
        curl(&["--range", "10-19", &url("/large")]).await,
        "0123456789"
    );
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let saved = gate.directory().join("etag").display().to_string();
    curl(&[
        "--etag-save",
        &saved,
        "--output",
        "/dev/null",
        &url("/large"),
    ])
    .await;
    let upload = format!("@{}", directory.path().join("large").display());
    let table: [(Vec<&str>, &str, &str); 4] = [
        (vec!["--etag-compare", &saved], "/large", "304"),
        (vec![], "/gone", "410"),
        (vec![], "/absent", "404"),
        (vec!["--data-binary", &upload], "/", "413"),
    ];
    for (more, path, expected) in table {
        let target = url(path);
        let mut arguments = status.to_vec();
        arguments.extend(more);
        arguments.push(&target);
        assert_eq!(curl(&arguments).await, expected, "{path}");
    }
    let output = WRK.run(&["-t1", "-c16", "-d1s", &url("/")]).await;
    let text = said(&output);
    assert!(
        !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "{text}"
    );
    gate.until_idle().await;
}

// A14, A3: a noisy account is refused under a real client's load, while another's requests all pass.
#[tokio::test]
async fn under_real_load_only_the_noisy_account_is_refused() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        exchange.reply(200, "ok").await
    });
    let gate = sidecar("limits: [{ name: account, per: [account], max: 10 }]").before(&origin);
    let gate = gate.start().await;
    let url = format!("http://{}/", gate.address);
    let noisy = ["-t1", "-c40", "-d2s", "-H", "x-account: noisy", &url];
    let quiet = ["-t1", "-c4", "-d2s", "-H", "x-account: quiet", &url];
    let (noisy, quiet) = tokio::join!(WRK.run(&noisy), WRK.run(&quiet));
    assert!(said(&noisy).contains("Non-2xx"), "{}", said(&noisy));
    assert!(!said(&quiet).contains("Non-2xx"), "{}", said(&quiet));
    assert!(origin.peak() <= 14, "{}", origin.peak());
    gate.until_idle().await;
}
