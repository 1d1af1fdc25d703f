//! The data plane.

mod settings;

pub use settings::{
    Address, Certificate, Departed, Endpoint, Listener, ResourceSettings, Settings, StreamPolicy,
    Tls, UpstreamSettings,
};
