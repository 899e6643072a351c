//! Checks over several fields: which of them run, and what they say.

use serde_json::{Map, Value};

use super::check::{self, Cx, at, field_at, quoted};
use crate::check::{CustomViolation, EntityCheck};
use crate::field::{Kind, RecordDef};
use crate::reference::is_reference;

type Record = Map<String, Value>;

/// Runs a check and adds what it finds to `wrong`.
pub(super) fn run(
    check: &EntityCheck,
    def: &RecordDef,
    data: &Record,
    cx: Cx,
    whole: bool,
    wrong: &mut Record,
) {
    let when = if cx.updating { "when updating, " } else { "" };
    let mut subject = Subject {
        def,
        data,
        cx,
        whole,
        wrong,
    };
    match check {
        EntityCheck::AtLeastOneOf(paths) => {
            if subject.ready(paths, &[], Runs::MISSING_AND_INVALID)
                && !paths.iter().any(|p| subject.given(p))
            {
                subject.entity(format!(
                    "{when}at least one of these fields must be non-empty: {}",
                    quoted(paths)
                ));
            }
        }
        EntityCheck::OnlyOneOf(paths) => {
            if subject.ready(paths, paths, Runs::INVALID)
                && paths.iter().filter(|p| subject.given(p)).count() != 1
            {
                subject.entity(format!(
                    "exactly one of these fields must be non-empty: {}",
                    quoted(paths)
                ));
            }
        }
        EntityCheck::Distinct(paths) => {
            if subject.ready(paths, paths, Runs::INVALID) {
                let values: Vec<&Value> = paths
                    .iter()
                    .filter(|p| subject.given(p))
                    .filter_map(|p| at(data, p))
                    .collect();
                if values
                    .iter()
                    .enumerate()
                    .any(|(i, v)| values[..i].contains(v))
                {
                    subject.entity(format!(
                        "values of these fields must be distinct: {}",
                        quoted(paths)
                    ));
                }
            }
        }
        EntityCheck::MutuallyRequired(paths) => {
            if subject.ready(paths, &[], Runs::MISSING) {
                let count = paths.iter().filter(|p| subject.given(p)).count();
                if count != 0 && count != paths.len() {
                    subject.entity(format!(
                        "all or none of these fields must be set: {}",
                        quoted(paths)
                    ));
                }
            }
        }
        EntityCheck::MutuallyExclusive(paths) => {
            if subject.ready(paths, &[], Runs::MISSING)
                && paths.iter().filter(|p| subject.given(p)).count() > 1
            {
                subject.entity(format!(
                    "only one or none of these fields must be set: {}",
                    quoted(paths)
                ));
            }
        }
        EntityCheck::MutuallyExclusiveSets(one, other) => {
            let all: Vec<&str> = one.iter().chain(other).copied().collect();
            if subject.ready(&all, &[], Runs::MISSING) {
                let used = |set: &[&'static str]| -> Vec<&str> {
                    set.iter().copied().filter(|p| subject.given(p)).collect()
                };
                let (one, other) = (used(one), used(other));
                if !one.is_empty() && !other.is_empty() {
                    let text = format!(
                        "these sets are mutually exclusive: ({}), ({})",
                        quoted(&one),
                        quoted(&other)
                    );
                    subject.entity(text);
                }
            }
        }
        EntityCheck::Conditional {
            if_field,
            if_match,
            then_field,
            then_match,
            then_err,
        } => {
            if !subject.ready(&[if_field, then_field], &[if_field], Runs::INVALID)
                || !subject.satisfies(if_field, if_match)
            {
                return;
            }
            let then = at(data, then_field).unwrap_or(&Value::Null);
            if let Err(e) = check::value(then_match, field_at(def, then_field), then, cx) {
                subject.field(then_field, e);
                let default =
                    || format!("failed conditional validation given value of field '{if_field}'");
                subject.entity(then_err.map_or_else(default, |text| text.replace("%s", if_field)));
            }
        }
        EntityCheck::ConditionalAtLeastOneOf {
            if_field,
            if_match,
            then_at_least_one_of,
            then_err,
        } => {
            let mut sources = vec![*if_field];
            sources.extend(then_at_least_one_of);
            if subject.ready(&sources, &[], Runs::MISSING_AND_INVALID)
                && at(data, if_field).is_some()
                && subject.satisfies(if_field, if_match)
                && !then_at_least_one_of.iter().any(|p| subject.given(p))
            {
                let names = quoted(then_at_least_one_of);
                let default =
                    || format!("{when}at least one of these fields must be non-empty: {names}");
                subject.entity(then_err.map_or_else(default, |text| text.replace("%s", &names)));
            }
        }
        EntityCheck::Custom {
            field_sources,
            run_with_missing_fields,
            run,
        } => {
            let needed: &[&str] = if *run_with_missing_fields {
                &[]
            } else {
                field_sources
            };
            if subject.ready(field_sources, needed, Runs::NEITHER) {
                subject.custom(*run);
            }
        }
        EntityCheck::Unlisted { when_valid, run } => {
            if !when_valid.iter().any(|p| subject.wrong.contains_key(*p)) {
                subject.custom(*run);
            }
        }
    }
}

/// When a kind of check runs although something is not as it should be.
struct Runs {
    with_missing: bool,
    with_invalid: bool,
}

impl Runs {
    const NEITHER: Runs = Runs {
        with_missing: false,
        with_invalid: false,
    };
    const MISSING: Runs = Runs {
        with_missing: true,
        with_invalid: false,
    };
    const INVALID: Runs = Runs {
        with_missing: false,
        with_invalid: true,
    };
    const MISSING_AND_INVALID: Runs = Runs {
        with_missing: true,
        with_invalid: true,
    };
}

struct Subject<'a> {
    def: &'a RecordDef,
    data: &'a Record,
    cx: Cx,
    whole: bool,
    wrong: &'a mut Record,
}

impl Subject<'_> {
    /// Whether the check may run. What is needed and missing becomes a violation.
    fn ready(&mut self, sources: &[&str], needed: &[&str], runs: Runs) -> bool {
        let mut all_missing = true;
        let mut all_valid = true;
        for path in sources {
            if let Some(v) = at(self.data, path) {
                all_missing = false;
                let reference = v.as_str().is_some_and(is_reference)
                    && field_at(self.def, path)
                        .is_some_and(|f| f.referenceable && matches!(f.kind, Kind::String));
                // What a reference stands for is not known yet.
                if reference {
                    return false;
                }
            }
            // Kong looks for the whole path here, so that only fields of the row itself count.
            all_valid &= !self.wrong.contains_key(*path);
        }
        if !all_valid && !runs.with_invalid || all_missing && !(runs.with_missing && self.whole) {
            return false;
        }
        let mut complete = true;
        for path in needed {
            if at(self.data, path).is_none() {
                complete = false;
                let when = if self.cx.updating {
                    " when updating"
                } else {
                    ""
                };
                self.field(
                    path,
                    format!("field required for entity check{when}").into(),
                );
            }
        }
        complete
    }

    fn given(&self, path: &str) -> bool {
        match at(self.data, path) {
            None | Some(Value::Null) => false,
            Some(Value::String(s)) => !s.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(_) => true,
        }
    }

    fn satisfies(&self, path: &str, condition: &crate::field::Field) -> bool {
        let v = at(self.data, path).unwrap_or(&Value::Null);
        check::value(condition, field_at(self.def, path), v, self.cx).is_ok()
    }

    fn custom(&mut self, run: fn(&Record) -> Result<(), CustomViolation>) {
        match run(self.data) {
            Ok(()) => {}
            Err(CustomViolation::Entity(text)) => self.entity(text),
            Err(CustomViolation::Field(name, v)) => self.field(name, v),
        }
    }

    fn entity(&mut self, text: String) {
        if let Value::Array(texts) = self
            .wrong
            .entry("@entity")
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            texts.push(text.into());
        }
    }

    /// Puts a violation at a dotted path. A text that is already there for what leads to it stays: it says more.
    fn field(&mut self, path: &str, v: Value) {
        let mut target = &mut *self.wrong;
        let mut rest = path;
        while let Some((head, tail)) = rest.split_once('.') {
            let slot = target
                .entry(head)
                .or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = slot else { return };
            target = inner;
            rest = tail;
        }
        target.insert(rest.to_owned(), v);
    }
}
