//! Over REST: who may do what, reports, questions, contact lists, the log, and what HTTP asks for.

mod contacts;
mod http;
mod log;
mod questions;
mod reports;
mod rights;
