//! The plugin: who is there, for whom, and told once.
//!
//! Clients show a token that says what they may do, register devices over a socket or the API, and report a status; statuses of
//! several devices are consolidated for whoever may see them, and changes reach each watcher once. Mounted behind the gate as
//! the upstream `presence`, so its requests and sockets are classified, limited and measured like any other. Never knows the
//! file, the admin API, nor how the gate forwards.

mod account;
mod api;
mod bridge;
mod call;
mod chance;
mod contacts;
mod depth;
mod edit;
mod fault;
pub mod fetch;
pub mod instruction;
mod message;
mod name;
mod peers;
mod plugin;
mod registry;
mod routing;
mod settings;
mod signal;
#[cfg(test)]
mod simulation;
mod status;
mod subscription;
#[cfg(test)]
mod testing;
pub mod token;
mod viewer;

pub use call::CallStatus;
pub use edit::{EditSettings, Editor};
pub use name::{NAME_MAX, Name, NameError};
pub use plugin::{Admitted, CallPermit, Doors, Mounted, Presence};
pub use registry::Registry;
pub use registry::arrival::{Arrival, Connected, Count, Nameless, TokenEnd, TooMany, Touched};
pub use registry::consolidate::{DeviceItem, Item, Rules};
pub use registry::history::{Entry, Page};
pub use registry::session::{Channel, Moment, Report, SessionRef, SocketId, Source};
pub use settings::{
    AccountSettings, ApiAccess, Application, Choose, Destination, KeySettings, Peer, Peers, Script,
    SecretText, Settings, Unavailable,
};
pub use status::{Order, Reason, Status};
