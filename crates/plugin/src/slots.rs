//! Per-request state of plugins, keyed by type.

use std::any::Any;

use smallvec::SmallVec;

/// Typed slots: a plugin keeps one value of a type of its own per request. Empty slots cost nothing.
#[derive(Default)]
pub struct Slots(SmallVec<[Box<dyn Any + Send + Sync>; 2]>);

impl Slots {
    /// The value of that type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.iter().find_map(|b| b.downcast_ref())
    }

    /// The value of that type, to change.
    pub fn get_mut<T: Any + Send + Sync>(&mut self) -> Option<&mut T> {
        self.0.iter_mut().find_map(|b| b.downcast_mut())
    }

    /// Puts a value in, in place of an earlier one of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        match self.get_mut::<T>() {
            Some(old) => *old = value,
            None => self.0.push(Box::new(value)),
        }
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slots({})", self.0.len())
    }
}
