//! The parts of an object that are written apart.

/// The part of an object that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, where the status is a subresource.
    Main,
    /// The status.
    Status,
}
