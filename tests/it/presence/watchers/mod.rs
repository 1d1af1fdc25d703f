//! Those who watch: over sockets, server-sent events and webhooks, one message a burst, however slow they are.

mod bursts;
mod lists;
mod streams;
mod webhooks;
