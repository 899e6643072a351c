//! What a plugin makes of a credential once and needs for every request.

use std::any::Any;
use std::sync::{Arc, OnceLock};

/// A place for one value, made when it is first asked for: a parsed key, say. A credential that changes is another one, with an empty place.
#[derive(Clone, Default)]
pub struct Prepared(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Prepared {
    /// The value, made now if it is not there yet. Should the place hold a value of another type, this one is made each time: a credential
    /// belongs to one plugin, which has one use for it.
    pub fn get_or_make<T: Any + Send + Sync>(&self, make: impl Fn() -> T) -> Arc<T> {
        let kept = self.0.get_or_init(|| Arc::new(make()));
        let kept = kept.clone().downcast::<T>();
        kept.unwrap_or_else(|_| Arc::new(make()))
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may be a secret.
        write!(f, "Prepared({})", self.0.get().is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_value_is_made_once() {
        let made = AtomicU32::new(0);
        let place = Prepared::default();
        let get = || *place.get_or_make(|| made.fetch_add(1, Ordering::Relaxed));
        assert_eq!((get(), get()), (0, 0));
        assert_eq!(*place.get_or_make(|| "another type"), "another type");
        assert_eq!(get(), 0);
        assert_eq!(*place.clone().get_or_make(|| 7_u32), 0);
    }
}
