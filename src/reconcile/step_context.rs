//! What the Steps of a plan need.

use super::World;
use super::link::Link;
use super::references::References;
use crate::plan::Desired;

/// What the Steps need.
#[derive(Debug)]
pub struct StepContext<'a, S> {
    /// The handles.
    pub world: &'a World<S>,
    /// The agent's gateway.
    pub link: &'a Link,
    /// What the agent refers to.
    pub references: &'a References,
    /// What it is to be.
    pub desired: &'a Desired,
}
