//! What plugins add to what is logged of a request (`kong.log.set_serialize_value`).

use serde_json::Value;

/// Values by the dotted names of their fields, in the order in which they were set. Kept only for requests that some plugin logs.
#[derive(Debug, Default)]
pub struct LogValues {
    wanted: bool,
    values: Vec<(&'static str, Value)>,
}

impl LogValues {
    /// Whether some plugin of the request's chain logs.
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Says whether some plugin of the request's chain logs; the proxy's business.
    pub fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Shows a value in the field of that name: dots lead into objects. `value` is made only when it will be read.
    pub fn set(&mut self, field: &'static str, value: impl FnOnce() -> Value) {
        if self.wanted {
            self.values.push((field, value()));
        }
    }

    /// The fields with their values; a later one of the same name counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.values.iter().map(|(field, value)| (*field, value))
    }

    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_nobody_reads_are_not_made() {
        let mut values = LogValues::default();
        values.set("a", || unreachable!("nobody wants it"));
        values.want(true);
        values.set("b.c", || 1.into());
        assert_eq!(
            values.iter().collect::<Vec<_>>(),
            [("b.c", &Value::from(1))]
        );
    }
}
