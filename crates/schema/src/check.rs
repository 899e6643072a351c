//! Checks over several fields, and shorthand fields: the descriptions. [`crate::validate`] interprets them.

use serde_json::{Map, Value};

use crate::field::Field;

/// A condition on one field inside a conditional check; said with the same words as a field.
pub type Condition = Field;

/// A check over several fields. Paths are dotted (`config.redis.host`).
#[derive(Clone, Debug)]
pub enum EntityCheck {
    /// At least one is non-empty.
    AtLeastOneOf(Vec<&'static str>),
    /// Exactly one is non-empty.
    OnlyOneOf(Vec<&'static str>),
    /// All differ.
    Distinct(Vec<&'static str>),
    /// All or none.
    MutuallyRequired(Vec<&'static str>),
    /// At most one.
    MutuallyExclusive(Vec<&'static str>),
    /// If any of the first set is given, none of the second may be.
    MutuallyExclusiveSets(Vec<&'static str>, Vec<&'static str>),
    /// When `if_field` satisfies `if_match`, `then_field` must satisfy `then_match`.
    Conditional {
        /// The path looked at.
        if_field: &'static str,
        /// What it must satisfy for the rest to apply.
        if_match: Box<Condition>,
        /// The path then checked.
        then_field: &'static str,
        /// What it must satisfy.
        then_match: Box<Condition>,
        /// The text; Kong's default when `None`.
        then_err: Option<&'static str>,
    },
    /// When `if_field` satisfies `if_match`, one of `then_at_least_one_of` must be non-empty.
    ConditionalAtLeastOneOf {
        /// The path looked at.
        if_field: &'static str,
        /// What it must satisfy.
        if_match: Box<Condition>,
        /// The paths of which one must be non-empty.
        then_at_least_one_of: Vec<&'static str>,
        /// The text.
        then_err: Option<&'static str>,
    },
    /// A check in code.
    Custom {
        /// The paths it reads; it runs when all of them are valid, and one of them is there unless `run_with_missing_fields`.
        field_sources: Vec<&'static str>,
        /// Also run when a source is missing.
        run_with_missing_fields: bool,
        /// Gets the whole entity; answers the violation: a text for `@entity`, or per field.
        run: fn(&Map<String, Value>) -> Result<(), CustomViolation>,
    },
    /// A check in code that schemas do not show: of a variant of a row, or of a record as a whole (Kong's `custom_validator` of `config`).
    Unlisted {
        /// It runs when none of these paths has a violation yet; always when empty.
        when_valid: Vec<&'static str>,
        /// Gets the whole entity. A violation of a field replaces what else is wrong with that field.
        run: fn(&Map<String, Value>) -> Result<(), CustomViolation>,
    },
}

/// What a custom check found.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomViolation {
    /// Shown under `@entity`.
    Entity(String),
    /// Shown under the named field.
    Field(&'static str, Value),
}

/// A spelling that clients may use and that is translated into other fields, such as `url` of a service.
#[derive(Clone, Debug)]
pub struct Shorthand {
    /// The name clients write.
    pub name: &'static str,
    /// Its form, checked before it is translated.
    pub field: Field,
    /// Gets the value (never missing, may be null); answers the fields it stands for, as a partial record.
    pub translate: fn(&Value) -> Map<String, Value>,
    /// Where the value is read from when the entity is shown, for shorthands that are also shown; dotted path within the record.
    pub shown_from: Option<&'static str>,
    /// True when a translated value wins over one that the client wrote in full.
    pub wins: bool,
}
