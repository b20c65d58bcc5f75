//! An agent's token: the rules to issue, rotate and retire it (`rules`), its Secret (`secret`), and its acceptance (`acceptance`).

pub mod acceptance;
pub mod rules;
pub mod secret;
