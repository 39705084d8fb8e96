//! The `trove` program.

fn main() {}
