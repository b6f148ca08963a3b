//! bowshock: the front door of a Galaxy server.

pub mod config;
