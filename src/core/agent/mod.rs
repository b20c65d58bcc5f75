//! One agent: the desired state (`build`, `desired`), the observed state (`observed`), the plan (`plan`), and the status (`status`,
//! `conditions`, `events`).

pub mod active_hours;
pub mod activity;
pub mod admission;
pub mod binding;
pub mod blocked;
pub mod build;
mod check_in_condition;
pub mod claim;
pub mod cleanup;
pub mod conclude;
pub mod conditions;
pub mod deletion_policy;
pub mod desired;
pub mod events;
pub mod file_writes;
pub mod files;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod folder;
pub mod found_files;
pub mod heartbeat;
mod heartbeat_condition;
pub mod heartbeat_state;
mod id_history;
pub mod interrupted;
pub mod label;
pub mod leftovers;
pub mod liveness;
#[cfg(test)]
pub(crate) mod memory_objects;
pub mod observed;
pub mod observer;
pub mod offline;
pub mod offline_objects;
pub mod passed_config;
pub mod permissions;
pub mod plan;
pub mod preview;
pub mod protection;
pub mod references;
pub mod removal;
pub mod resolved_names;
pub mod revocation;
pub mod session;
pub mod soul_files;
pub mod status;
pub mod status_input;
pub mod step;
pub mod templates;
pub mod token;
mod unanswered;
pub mod variables;
pub mod wake;
pub mod workspaces;
