//! bowshock
fn main() {}
