//! The core entities, each defined once
