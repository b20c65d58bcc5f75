//! The JSON of Agents, Boards and AgentGateways in the API for people.

mod agent;
mod board;
mod time;

pub use self::agent::{Entry, Item, StatusWord, has_id};
pub use self::board::{BoardItem, CommonFields, GatewayItem};
pub use self::time::ApiTime;
