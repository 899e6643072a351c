//! [`EntityDef`]: one kind of thing that the Admin API manages, said once.

use serde_json::{Map, Value};

use crate::check::{CustomViolation, EntityCheck, Shorthand};
use crate::field::{Field, Kind, Named, OnDelete, RecordDef};

/// One kind of thing that the Admin API manages. Validation, `GET /schemas/<name>`, SQL, CRUD paths, paging, import and export follow from it.
#[derive(Clone, Debug)]
pub struct EntityDef {
    /// Kong's name of the entity and our table: `services`, `keyauth_credentials`.
    pub name: &'static str,
    /// The path segment of its collection: `services`, `key-auths`.
    pub collection: &'static str,
    /// The unique field that stands for the id in paths: `name`, `username`, `key`.
    pub endpoint_key: Option<&'static str>,
    /// A field that stands for the id in paths below a parent, where it is unique: `group` in `/consumers/{c}/acls/{group}`.
    pub nested_key: Option<&'static str>,
    /// For entities that live below another: `/consumers/{c}/key-auth` has parent field `consumer` and segment `key-auth`.
    pub nested: Vec<Nested>,
    /// Fields, checks, shorthands.
    pub record: RecordDef,
    /// Rows may carry `ttl` (seconds) and vanish when it is over.
    pub ttl: bool,
    /// A field by which the data plane looks rows up while it serves (a credential's `key`), or whose values it asks for (`group`);
    /// indexed in the snapshot.
    pub lookup: Option<&'static str>,
    /// Unique together, beside the fields that are unique alone. For `plugins`: name, route, service, consumer.
    pub unique_together: Vec<Vec<&'static str>>,
    /// Whether an export has the rows: not those that come and go by themselves, such as sessions.
    pub exported: bool,
    /// Whether the Admin API has paths for it: not for what only a plugin makes while requests are served, such as authorization codes.
    pub in_api: bool,
    /// The fields that identify a row in a declarative file, where [`EntityDef::cache_key`] would not find them by itself.
    pub identity: Vec<&'static str>,
    /// Rows come in kinds that differ in more than checks can say: routes, by their protocols.
    pub variant: Option<Variant>,
    /// A row as a client would write it, for documents and for tests of them; references are left out.
    pub example: Option<fn() -> Value>,
    /// Where the entities that foreign keys point at are found, so that `{"name": "x"}` in their place can be checked.
    pub catalogue: Option<Catalogue>,
    /// What is made of values before they are stored. [`crate::complete`] and [`crate::patch`] do it; whoever has rows that were
    /// through it already empties the list of a copy of the definition.
    pub transformations: Vec<Transformation>,
}

/// Finds an entity by its name.
pub type Catalogue = fn(&str) -> Option<&'static EntityDef>;

/// What depends on the kind of a row; Kong's subschemas. Checks that belong to it are [`EntityCheck::Unlisted`].
#[derive(Clone, Debug)]
pub struct Variant {
    /// Fills what was left out and has another default in this kind of row. Gets the client's row as it came.
    pub defaults: fn(&mut Map<String, Value>),
    /// Refuses a row whose kind cannot be told; nothing else is then checked. Gets the row after defaults.
    pub gate: fn(&Map<String, Value>) -> Result<(), CustomViolation>,
}

/// What is made of values before they are stored, such as the hash of a password (`transformations` with `on_write` in
/// `kong/db/schema/init.lua`).
///
/// It is applied when a client gives all of `input`, and never to what is stored already. As its result may depend on `needs`, a change
/// of one of those is refused unless `input` is given with it.
#[derive(Clone, Debug)]
pub struct Transformation {
    /// Dotted paths of the fields that are transformed.
    pub input: Vec<&'static str>,
    /// Dotted paths of further fields that are looked at.
    pub needs: Vec<&'static str>,
    /// What is made of them.
    pub on_write: OnWrite,
}

/// Gets the complete row; answers the fields to replace, or why there are none.
pub type OnWrite = fn(&Map<String, Value>) -> Result<Map<String, Value>, String>;

/// A collection of this entity below a row of another: `/services/{services}/routes`.
#[derive(Clone, Debug)]
pub struct Nested {
    /// The foreign field of this entity which points at the parent: `service`.
    pub field: &'static str,
    /// The path segment below the parent's path: `routes`, `key-auth`.
    pub segment: &'static str,
}

impl EntityDef {
    /// An entity with those fields; its collection is called as it is.
    pub fn new(name: &'static str, fields: Vec<Named>) -> Self {
        EntityDef {
            name,
            collection: name,
            endpoint_key: None,
            nested_key: None,
            nested: Vec::new(),
            record: RecordDef {
                fields,
                checks: Vec::new(),
                shorthands: Vec::new(),
            },
            ttl: false,
            lookup: None,
            unique_together: Vec::new(),
            exported: true,
            in_api: true,
            identity: Vec::new(),
            variant: None,
            example: None,
            catalogue: None,
            transformations: Vec::new(),
        }
    }

    /// The path segment of its collection.
    pub fn collection(mut self, segment: &'static str) -> Self {
        self.collection = segment;
        self
    }

    /// The unique field that stands for the id in paths.
    pub fn endpoint_key(mut self, field: &'static str) -> Self {
        self.endpoint_key = Some(field);
        self
    }

    /// The field that stands for the id in paths below a parent.
    pub fn nested_key(mut self, field: &'static str) -> Self {
        self.nested_key = Some(field);
        self
    }

    /// A collection below another entity.
    pub fn nested(mut self, field: &'static str, segment: &'static str) -> Self {
        self.nested.push(Nested { field, segment });
        self
    }

    /// A check over several fields.
    pub fn check(mut self, check: EntityCheck) -> Self {
        self.record.checks.push(check);
        self
    }

    /// A shorthand field.
    pub fn shorthand(mut self, shorthand: Shorthand) -> Self {
        self.record.shorthands.push(shorthand);
        self
    }

    /// Rows may expire.
    pub fn with_ttl(mut self) -> Self {
        self.ttl = true;
        self
    }

    /// The data plane looks rows up by this field.
    pub fn lookup(mut self, field: &'static str) -> Self {
        self.lookup = Some(field);
        self
    }

    /// These fields are unique together.
    pub fn unique_together(mut self, fields: &[&'static str]) -> Self {
        self.unique_together.push(fields.to_vec());
        self
    }

    /// Exports leave the rows out.
    pub fn not_exported(mut self) -> Self {
        self.exported = false;
        self
    }

    /// The Admin API has no paths for it.
    pub fn not_in_api(mut self) -> Self {
        self.in_api = false;
        self
    }

    /// These fields identify a row; see [`EntityDef::cache_key`].
    pub fn identity(mut self, fields: &[&'static str]) -> Self {
        self.identity = fields.to_vec();
        self
    }

    /// Kong's `cache_key`: the fields that identify a row together; empty when its name alone does. Those that are unique together, or the
    /// one by which it is looked up, unless the definition says others.
    pub fn cache_key(&self) -> Vec<&'static str> {
        if !self.identity.is_empty() {
            return self.identity.clone();
        }
        match self.unique_together.first() {
            Some(fields) => fields.clone(),
            None => self.lookup.into_iter().collect(),
        }
    }

    /// What depends on the kind of a row.
    pub fn variant(mut self, variant: Variant) -> Self {
        self.variant = Some(variant);
        self
    }

    /// A row as a client would write it, without its references.
    pub fn example(mut self, row: fn() -> Value) -> Self {
        self.example = Some(row);
        self
    }

    /// Where other entities are found.
    pub fn catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = Some(catalogue);
        self
    }

    /// Something to make of values before they are stored.
    pub fn transformation(mut self, transformation: Transformation) -> Self {
        self.transformations.push(transformation);
        self
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.record.get(name)
    }

    /// Its foreign keys: field name, entity pointed at, what happens when that row goes.
    pub fn foreign_keys(
        &self,
    ) -> impl Iterator<Item = (&'static str, &'static str, Option<OnDelete>)> + '_ {
        self.record.fields.iter().filter_map(|(n, f)| match f.kind {
            Kind::Foreign(to) => Some((*n, to, f.on_delete)),
            _ => None,
        })
    }

    /// The fields that are unique alone.
    pub fn unique_fields(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.record
            .fields
            .iter()
            .filter(|(_, f)| f.unique)
            .map(|(n, _)| *n)
    }

    /// Whether the data plane asks for the values of [`EntityDef::lookup`] that a consumer has, rather than for the row of a value: when
    /// several rows may share one.
    pub fn is_listed(&self) -> bool {
        let unique = |name| self.field(name).is_some_and(|f| f.unique);
        self.lookup.is_some_and(|name| !unique(name))
    }

    /// Whether rows carry tags.
    pub fn has_tags(&self) -> bool {
        self.field("tags").is_some()
    }
}
