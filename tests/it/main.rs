//! Black-box tests: the real binary, as its users run it, against what it promises to the outside.
//!
//! One binary, so that it links once. Each test names the requirements it shows.
#![expect(clippy::unwrap_used, reason = "in a test the panic is the report")]

mod access_log;
mod admin;
mod admission;
mod admit;
mod candidates;
mod classify;
mod cli;
mod clients;
mod deploy;
mod docs;
mod drain;
mod early;
mod endpoints;
mod explain;
mod grafana;
mod headers;
mod http1;
mod keys;
mod leak;
mod lease;
mod moving;
mod notify;
mod operator;
mod presence;
mod proxy;
mod queue;
mod refuse;
mod reload;
mod scenario;
mod sparing;
mod streams;
mod suggest;
mod support;
mod tidy;
mod tls;
mod top;
mod traces;
mod upload;
mod upstream;
