//! The presence plugin behind a real gate: over REST, on sockets, and for those who watch.

mod api;
mod desk;
mod packages;
mod page;
mod road;
mod sdk;
mod sockets;
mod tokens;
mod watchers;
