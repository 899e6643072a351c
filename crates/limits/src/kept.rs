//! State shared by all configurations of a node, which has a background task of its own.

use std::ops::Deref;
use std::sync::Arc;

/// What [`silverback_plugin::PluginEnv::shared`] keeps: the task holds a `Weak` to the inside and ends when the last configuration that holds
/// the outside is gone.
pub(crate) struct Kept<T>(pub(crate) Arc<T>);

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
