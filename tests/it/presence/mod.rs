//! The presence plugin behind a real gate: over REST, on sockets, and for those who watch.

mod api;
pub(crate) mod browser;
pub(crate) mod calls;
pub(crate) mod desk;
mod edit;
mod instructions;
mod packages;
mod page;
mod phone;
pub(crate) mod road;
mod sdk;
mod sockets;
mod tokens;
mod watchers;
