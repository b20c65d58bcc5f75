//! An agent's token: when it is issued, rotated and retired (`rules`), how its Secret holds it (`secret`), and which token is
//! accepted (`acceptance`).

pub mod acceptance;
pub mod rules;
pub mod secret;
