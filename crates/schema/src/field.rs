//! One field of an entity or of a plugin's configuration, in Kong's vocabulary.
//!
//! A [`Field`] is a description only. What it means for a value is in [`crate::validate`], how it is shown to clients in [`crate::render`].

use std::borrow::Cow;

use serde_json::Value;

use crate::check::{EntityCheck, Shorthand};

/// A name and its field, in the order in which clients see them.
pub type Named = (&'static str, Field);

/// A check that Kong writes as a Lua function: gets the (coerced, non-null) value, answers Kong's error text.
pub type Custom = fn(&Value) -> Result<(), String>;

/// The type of a field, with what belongs to that type.
#[derive(Clone, Debug)]
pub enum Kind {
    /// UTF-8 text.
    String,
    /// A whole number.
    Integer,
    /// Any JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An ordered list.
    Array(Box<Field>),
    /// A list without duplicates; duplicates are dropped silently, the order of first appearance is kept.
    Set(Box<Field>),
    /// Free keys.
    Map {
        /// Describes every key.
        keys: Box<Field>,
        /// Describes every value.
        values: Box<Field>,
    },
    /// A fixed group of fields.
    Record(RecordDef),
    /// `{"id": "<uuid>"}` of a row of the named entity.
    Foreign(&'static str),
    /// Anything; `config` of a plugin before its name is known.
    Abstract,
}

/// The inside of a record.
#[derive(Clone, Debug, Default)]
pub struct RecordDef {
    /// Its fields in order.
    pub fields: Vec<Named>,
    /// Checks over several fields.
    pub checks: Vec<EntityCheck>,
    /// Other spellings which are translated into fields.
    pub shorthands: Vec<Shorthand>,
}

impl RecordDef {
    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, f)| f)
    }
}

/// A struct written with [`crate::record!`].
pub trait Record {
    /// Its fields in order.
    fn fields() -> Vec<Named>;
}

/// `one` pattern of `match_none`, `match_all`: a Lua pattern and the text shown when it is violated.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As Kong shows it: a Lua pattern.
    pub lua: &'static str,
    /// The text; Kong's default (`invalid value: <value>`) when `None`.
    pub err: Option<&'static str>,
}

/// A field with everything that is said about it. Built with [`string`], [`integer`], ... and the methods below.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its type.
    pub kind: Kind,
    /// From the doc comment of the struct's field.
    pub description: Cow<'static, str>,
    /// Must be there and not null. Kong shows `required: false` only where it was written: `Some(false)`.
    pub required: Option<bool>,
    /// Taken when the field is left out. `Some(Value::Null)` is shown as `"default": null`.
    pub default: Option<Value>,
    /// Filled by the server: ids, times, random keys.
    pub auto: bool,
    /// No two rows may share it.
    pub unique: bool,
    /// Unique even where Kong Enterprise would keep workspaces apart. Only shown: there is one workspace here.
    pub unique_across_ws: bool,
    /// Says `unique: false` out loud, as one of Kong's schemas does.
    pub says_not_unique: bool,
    /// Part of what clients write and see, but not of the stored row: whoever serves the entity takes it out and puts it in.
    pub transient: bool,
    /// A string with the form of a UUID.
    pub uuid: bool,
    /// A number of seconds since 1970.
    pub timestamp: bool,
    /// The allowed values.
    pub one_of: Option<Vec<Value>>,
    /// The forbidden values.
    pub not_one_of: Option<Vec<Value>>,
    /// Inclusive bounds.
    pub between: Option<(f64, f64)>,
    /// Must be greater than this.
    pub gt: Option<f64>,
    /// Must equal this; `Some(Null)` forbids any value.
    pub eq: Option<Value>,
    /// Shortest length; strings have 1 unless said otherwise. Only a written one is shown.
    pub len_min: Option<usize>,
    /// Longest length.
    pub len_max: Option<usize>,
    /// Exact length.
    pub len_eq: Option<usize>,
    /// A prefix.
    pub starts_with: Option<&'static str>,
    /// A Lua pattern which must match.
    pub matches: Option<&'static str>,
    /// What is said when `matches` is violated; Kong's default (`invalid value: <value>`) when `None`.
    pub err: Option<&'static str>,
    /// Lua patterns which must not match.
    pub match_none: Vec<Pattern>,
    /// Lua patterns which must all match.
    pub match_all: Vec<Pattern>,
    /// One of the Lua patterns must match, else the text; a condition needs none.
    pub match_any: Option<(Vec<&'static str>, Option<&'static str>)>,
    /// A value must be a regular expression that compiles.
    pub is_regex: bool,
    /// For lists: the value must contain this.
    pub contains: Option<Value>,
    /// Groups of which a set may use only one.
    pub mutually_exclusive_subsets: Option<Vec<Vec<&'static str>>>,
    /// May hold a `{vault://...}` reference.
    pub referenceable: bool,
    /// A secret: hidden in logs.
    pub encrypted: bool,
    /// What happens to this row when the row it points at goes away.
    pub on_delete: Option<OnDelete>,
    /// The field may not be changed by the client: accepted and ignored.
    pub immutable: bool,
    /// Not shown in schemas and not accepted from clients.
    pub hidden: bool,
    /// A deprecated field: `{message, removal_in_version}` in schemas.
    pub deprecation: Option<(&'static str, &'static str)>,
    /// Checks in code.
    pub custom: Vec<Custom>,
}

/// `on_delete` of a foreign key; without it deleting the parent is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// Delete this row too.
    Cascade,
    /// Set the reference to null.
    Null,
}

impl Field {
    /// A field of that kind with nothing else said.
    pub fn new(kind: Kind) -> Self {
        Field {
            kind,
            description: Cow::Borrowed(""),
            required: None,
            default: None,
            auto: false,
            unique: false,
            unique_across_ws: false,
            says_not_unique: false,
            transient: false,
            uuid: false,
            timestamp: false,
            one_of: None,
            not_one_of: None,
            between: None,
            gt: None,
            eq: None,
            len_min: None,
            len_max: None,
            len_eq: None,
            starts_with: None,
            matches: None,
            err: None,
            match_none: Vec::new(),
            match_all: Vec::new(),
            match_any: None,
            is_regex: false,
            contains: None,
            mutually_exclusive_subsets: None,
            referenceable: false,
            encrypted: false,
            on_delete: None,
            immutable: false,
            hidden: false,
            deprecation: None,
            custom: Vec::new(),
        }
    }

    /// Must be there and not null.
    pub fn required(mut self) -> Self {
        self.required = Some(true);
        self
    }

    /// Says `required: false` out loud, as some of Kong's schemas do.
    pub fn optional(mut self) -> Self {
        self.required = Some(false);
        self
    }

    /// Whether the field must be there.
    pub fn is_required(&self) -> bool {
        self.required == Some(true)
    }

    /// The default.
    pub fn default(mut self, v: impl Into<Value>) -> Self {
        self.default = Some(v.into());
        self
    }

    /// Filled by the server.
    pub fn auto(mut self) -> Self {
        self.auto = true;
        self
    }

    /// No two rows may share it.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// No two rows may share it, whatever their workspace.
    pub fn unique_across_ws(mut self) -> Self {
        self.unique = true;
        self.unique_across_ws = true;
        self
    }

    /// Says `unique: false` out loud.
    pub fn not_unique(mut self) -> Self {
        self.says_not_unique = true;
        self
    }

    /// Not stored with the row.
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// The allowed values.
    pub fn one_of<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.one_of = Some(values.into_iter().map(Into::into).collect());
        self
    }

    /// The forbidden values.
    pub fn not_one_of<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.not_one_of = Some(values.into_iter().map(Into::into).collect());
        self
    }

    /// Inclusive bounds.
    pub fn between(mut self, low: i64, high: i64) -> Self {
        // Bounds of fields are far below 2^53.
        self.between = Some((low as f64, high as f64));
        self
    }

    /// Inclusive bounds that are no whole numbers.
    pub fn between_fractions(mut self, low: f64, high: f64) -> Self {
        self.between = Some((low, high));
        self
    }

    /// Must be greater.
    pub fn gt(mut self, low: f64) -> Self {
        self.gt = Some(low);
        self
    }

    /// Must equal.
    pub fn eq(mut self, v: impl Into<Value>) -> Self {
        self.eq = Some(v.into());
        self
    }

    /// Shortest length.
    pub fn len_min(mut self, n: usize) -> Self {
        self.len_min = Some(n);
        self
    }

    /// Longest length.
    pub fn len_max(mut self, n: usize) -> Self {
        self.len_max = Some(n);
        self
    }

    /// Exact length.
    pub fn len_eq(mut self, n: usize) -> Self {
        self.len_eq = Some(n);
        self
    }

    /// A number of seconds since 1970, which the server does not fill.
    pub fn seconds_since_1970(mut self) -> Self {
        self.timestamp = true;
        self
    }

    /// A prefix.
    pub fn starts_with(mut self, prefix: &'static str) -> Self {
        self.starts_with = Some(prefix);
        self
    }

    /// A Lua pattern which must match.
    pub fn matches(mut self, lua: &'static str) -> Self {
        self.matches = Some(lua);
        self
    }

    /// A Lua pattern which must match, with its text.
    pub fn matches_or(mut self, lua: &'static str, err: &'static str) -> Self {
        self.matches = Some(lua);
        self.err = Some(err);
        self
    }

    /// A Lua pattern which must not match, with its text.
    pub fn match_none(mut self, lua: &'static str, err: &'static str) -> Self {
        self.match_none.push(Pattern {
            lua,
            err: Some(err),
        });
        self
    }

    /// A Lua pattern which must match, with its text.
    pub fn match_all(mut self, lua: &'static str, err: &'static str) -> Self {
        self.match_all.push(Pattern {
            lua,
            err: Some(err),
        });
        self
    }

    /// Lua patterns of which one must match, with the text.
    pub fn match_any(
        mut self,
        lua: impl IntoIterator<Item = &'static str>,
        err: &'static str,
    ) -> Self {
        self.match_any = Some((lua.into_iter().collect(), Some(err)));
        self
    }

    /// As [`Field::match_any`] in a condition, where nobody sees a text.
    pub fn is_any(mut self, lua: impl IntoIterator<Item = &'static str>) -> Self {
        self.match_any = Some((lua.into_iter().collect(), None));
        self
    }

    /// The value must compile as a regular expression.
    pub fn is_regex(mut self) -> Self {
        self.is_regex = true;
        self
    }

    /// Groups of which a set may use only one.
    pub fn mutually_exclusive_subsets(mut self, groups: &[&[&'static str]]) -> Self {
        self.mutually_exclusive_subsets = Some(groups.iter().map(|g| g.to_vec()).collect());
        self
    }

    /// May hold a vault reference.
    pub fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }

    /// A secret.
    pub fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// What happens to this row when the other goes away.
    pub fn on_delete(mut self, what: OnDelete) -> Self {
        self.on_delete = Some(what);
        self
    }

    /// Accepted and ignored when a client writes it.
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Neither shown nor accepted.
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Deprecated: what to say, and when it goes.
    pub fn deprecated(mut self, message: &'static str, removal_in_version: &'static str) -> Self {
        self.deprecation = Some((message, removal_in_version));
        self
    }

    /// A check in code.
    pub fn check(mut self, f: Custom) -> Self {
        self.custom.push(f);
        self
    }

    /// The description (taken from doc comments by [`crate::record!`]).
    pub fn describe(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.description = text.into();
        self
    }
}

/// Text.
pub fn string() -> Field {
    Field::new(Kind::String)
}

/// A whole number.
pub fn integer() -> Field {
    Field::new(Kind::Integer)
}

/// Any number.
pub fn number() -> Field {
    Field::new(Kind::Number)
}

/// `true` or `false`.
pub fn boolean() -> Field {
    Field::new(Kind::Boolean)
}

/// An ordered list.
pub fn array(elements: Field) -> Field {
    Field::new(Kind::Array(Box::new(elements)))
}

/// A list without duplicates.
pub fn set(elements: Field) -> Field {
    Field::new(Kind::Set(Box::new(elements)))
}

/// Free keys.
pub fn map(keys: Field, values: Field) -> Field {
    Field::new(Kind::Map {
        keys: Box::new(keys),
        values: Box::new(values),
    })
}

/// The record of a struct written with [`crate::record!`].
pub fn record<R: Record>() -> Field {
    Field::new(Kind::Record(RecordDef {
        fields: R::fields(),
        ..RecordDef::default()
    }))
}

/// A record with checks.
pub fn record_with<R: Record>(checks: Vec<EntityCheck>) -> Field {
    Field::new(Kind::Record(RecordDef {
        fields: R::fields(),
        checks,
        ..RecordDef::default()
    }))
}

/// A reference to a row of the named entity.
pub fn foreign(entity: &'static str) -> Field {
    Field::new(Kind::Foreign(entity))
}

/// A UUID.
pub fn uuid() -> Field {
    let mut f = string();
    f.uuid = true;
    f
}

/// The `id` field that every entity has.
pub fn id() -> Field {
    let mut f = uuid().auto().len_min(1).immutable();
    f.uuid = true;
    f
}

/// `created_at`, `updated_at`: seconds since 1970, filled by the server.
pub fn timestamp() -> Field {
    let mut f = integer().auto();
    f.timestamp = true;
    f
}

/// As [`timestamp`], with milliseconds behind the point.
pub fn timestamp_ms() -> Field {
    let mut f = number().auto();
    f.timestamp = true;
    f
}

/// Writes a struct and its field model at once.
///
/// Each field is `name: RustType = field-builder`; its doc comment becomes the description. The struct gets `Debug`, `Clone`,
/// `Deserialize` and `Serialize` (so the crate that uses it depends on `serde`); a field of type `Option` may be missing or null.
///
/// ```
/// use silverback_schema::{record, field::*};
/// record! {
///     /// What the plugin is told.
///     pub struct Config {
///         /// Names of the headers to look at.
///         pub key_names: Vec<String> = array(string()).required().default(vec!["apikey"]),
///         /// The realm.
///         pub realm: Option<String> = string().optional(),
///     }
/// }
/// ```
#[macro_export]
macro_rules! record {
    (
        $(#[doc = $sdoc:literal])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $fdoc:literal])* $fvis:vis $f:ident : $t:ty = $e:expr ),* $(,)?
        }
    ) => {
        $(#[doc = $sdoc])*
        #[derive(Debug, Clone, $crate::__serde::Deserialize, $crate::__serde::Serialize)]
        $vis struct $name {
            $( $(#[doc = $fdoc])* $fvis $f: $t, )*
        }
        impl $crate::field::Record for $name {
            fn fields() -> Vec<$crate::field::Named> {
                vec![ $( (
                    stringify!($f).trim_start_matches("r#"),
                    { let f: $crate::field::Field = $e; f.describe(concat!($($fdoc),*).trim()) },
                ), )* ]
            }
        }
    };
}
