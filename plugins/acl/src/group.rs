//! The entity: that a consumer is in a group. A group has no row of its own.

use serde_json::Value;
use silverback_plugin::schema::field::{foreign, id, string, timestamp};
use silverback_plugin::schema::typedefs::credential_tags;
use silverback_plugin::schema::{EntityDef, OnDelete, Record, record};

record! {
    /// That a consumer is in a group.
    struct Membership {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// Who is in the group.
        consumer: Value = foreign("consumers").required().on_delete(OnDelete::Cascade),
        /// The group's name.
        group: String = string().required().len_min(1),
        /// Words for grouping and filtering.
        tags: Option<Vec<String>> = credential_tags(),
    }
}

/// The entity of memberships.
pub const GROUPS: &str = "acls";

pub(crate) fn def() -> EntityDef {
    EntityDef::new(GROUPS, Membership::fields())
        .nested("consumer", "acls")
        .nested_key("group")
        .lookup("group")
        .unique_together(&["consumer", "group"])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;
    use silverback_plugin::exchange::entity_schema_without_descriptions;

    use super::*;

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/group_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
    }
}
