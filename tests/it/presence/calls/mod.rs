//! Calls through a real gate: a customer's real server tells what to do, and devices on sockets ring.

mod api;
mod edges;
mod instructions;
mod limits;
mod lives;
mod messages;
mod outcomes;
mod pages;
mod peers;
mod phones;
mod races;
mod rights;
mod rings;
mod rough;
pub(crate) mod scene;
mod settings;
mod talk;
