//! What is done to the fields of a body: of JSON objects, forms and multipart forms. Learnt from
//! `kong/plugins/request-transformer/access.lua`.

use std::borrow::Cow;

use http::HeaderValue;
use silverback_plugin::members::{Members, Name};
use silverback_plugin::multipart::{self, Part};
use silverback_plugin::{ConfigError, PluginError};

use crate::arguments::Arguments;
use crate::config::Config;
use crate::entries::{Edits, Entry};
use crate::environment::Scope;

/// How the fields of a body are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Json,
    Multipart,
    Form,
}

impl Kind {
    /// By the type: as in Kong, it is looked for anywhere in `Content-Type`.
    pub(crate) fn of(content_type: Option<&HeaderValue>) -> Option<Self> {
        let text = content_type?.as_bytes().to_ascii_lowercase();
        let has = |kind: &[u8]| text.windows(kind.len()).any(|w| w == kind);
        if has(b"application/json") {
            Some(Kind::Json)
        } else if has(b"multipart/form-data") {
            Some(Kind::Multipart)
        } else if has(b"application/x-www-form-urlencoded") {
            Some(Kind::Form)
        } else {
            None
        }
    }
}

/// Changes of fields.
#[derive(Debug)]
pub(crate) struct BodyEdits(Edits);

impl BodyEdits {
    /// `None` when bodies are to be left alone.
    pub(crate) fn compile(config: &Config) -> Result<Option<Self>, ConfigError> {
        let lists = [
            (&*config.rename.body, "rename.body"),
            (&*config.replace.body, "replace.body"),
            (&*config.add.body, "add.body"),
            (&*config.append.body, "append.body"),
        ];
        let edits = Edits::compile(&config.remove.body, lists)?;
        Ok(edits.map(BodyEdits))
    }

    /// The changed body; `None` when it stays as it is.
    pub(crate) fn apply(
        &self,
        kind: Kind,
        content_type: Option<&HeaderValue>,
        body: &[u8],
        scope: Scope<'_>,
    ) -> Result<Option<Vec<u8>>, PluginError> {
        match kind {
            Kind::Json => self.json(body, scope),
            Kind::Form => self.form(body, scope),
            Kind::Multipart => {
                let boundary = content_type.and_then(|t| multipart::boundary(t.as_bytes()));
                match boundary {
                    Some(boundary) => self.multipart(&boundary, body, scope),
                    None => Ok(None),
                }
            }
        }
    }

    /// Values that are no object stay: of lists Kong changes nothing either, of others it fails.
    fn json(&self, body: &[u8], scope: Scope<'_>) -> Result<Option<Vec<u8>>, PluginError> {
        let body = if body.is_empty() { b"{}" } else { body };
        // Names that depend on the request live as long as the members do.
        let new_names = self.0.rename.iter().map(|entry| {
            let new = entry.value.render(scope)?;
            Ok(Name::new(&String::from_utf8_lossy(&new)))
        });
        let new_names: Vec<Name> = new_names.collect::<Result<_, PluginError>>()?;
        let value = |entry: &Entry| entry.json(scope).map(|json| Cow::Owned(json.into_owned()));
        let appended: Vec<Cow<'_, [u8]>> = self
            .0
            .append
            .iter()
            .map(|entry| entry.json(scope))
            .collect::<Result<_, PluginError>>()?;
        let Some(mut members) = Members::parse(body) else {
            return Ok(None);
        };
        let mut changed = false;
        for name in &self.0.remove {
            changed |= members.remove(name).is_some();
        }
        for (entry, new) in self.0.rename.iter().zip(&new_names) {
            if entry.name != *new
                && counts(members.get(&entry.name))
                && let Some(value) = members.remove(&entry.name)
            {
                members.put(new, value);
                changed = true;
            }
        }
        for entry in &self.0.replace {
            if counts(members.get(&entry.name)) {
                members.put(&entry.name, value(entry)?);
                changed = true;
            }
        }
        for entry in &self.0.add {
            if !counts(members.get(&entry.name)) {
                members.put(&entry.name, value(entry)?);
                changed = true;
            }
        }
        for (entry, value) in self.0.append.iter().zip(&appended) {
            members.append(&entry.name, value);
            changed = true;
        }
        Ok(changed.then(|| members.to_json()))
    }

    fn form(&self, body: &[u8], scope: Scope<'_>) -> Result<Option<Vec<u8>>, PluginError> {
        let mut fields = Arguments::parse(body);
        let changed = self.0.change(&mut fields, scope)?;
        Ok(changed.then(|| fields.encode().into_bytes()))
    }

    /// As in Kong, nothing is appended. A body that cannot be read as a whole stays as it is.
    fn multipart(
        &self,
        boundary: &[u8],
        body: &[u8],
        scope: Scope<'_>,
    ) -> Result<Option<Vec<u8>>, PluginError> {
        let parts = match body {
            [] => Vec::new(),
            body => match multipart::all_parts(body, boundary) {
                Some(parts) => parts,
                None => return Ok(None),
            },
        };
        let mut fields: Vec<Field<'_>> = parts.into_iter().map(Field::of).collect();
        let mut changed = false;
        for entry in &self.0.rename {
            let new = entry.value.render(scope)?;
            let old = entry.name.text();
            if *new == *old || !fields.iter().any(|f| f.is(old)) {
                continue;
            }
            fields.retain(|f| !f.is(&new));
            for field in fields.iter_mut().filter(|f| f.is(old)) {
                field.rename(&new);
            }
            changed = true;
        }
        for name in &self.0.remove {
            let before = fields.len();
            fields.retain(|f| !f.is(name.text()));
            changed |= fields.len() != before;
        }
        for entry in &self.0.replace {
            let name = entry.name.text();
            let Some(at) = fields.iter().position(|f| f.is(name)) else {
                continue;
            };
            fields[at] = Field::new(name, &entry.value.render(scope)?);
            let mut n = 0;
            fields.retain(|f| {
                n += 1;
                n <= at + 1 || !f.is(name)
            });
            changed = true;
        }
        for entry in &self.0.add {
            let name = entry.name.text();
            if !fields.iter().any(|f| f.is(name)) {
                fields.push(Field::new(name, &entry.value.render(scope)?));
                changed = true;
            }
        }
        let whole = fields.into_iter().map(|f| f.whole);
        Ok(changed.then(|| multipart::join(boundary, whole)))
    }
}

/// Whether a member counts as there: in Kong `false` does not.
fn counts(value: Option<&[u8]>) -> bool {
    value.is_some_and(|v| v != b"false")
}

/// A part of a multipart form, perhaps changed.
struct Field<'a> {
    name: Option<Cow<'a, [u8]>>,
    whole: Cow<'a, [u8]>,
    /// As it was sent, while its name is the only thing that changed.
    sent: Option<Part<'a>>,
}

impl<'a> Field<'a> {
    fn of(part: Part<'a>) -> Self {
        Field {
            name: part.name().map(Cow::Borrowed),
            whole: Cow::Borrowed(part.whole),
            sent: Some(part),
        }
    }

    fn new(name: &[u8], value: &[u8]) -> Self {
        Field {
            name: Some(Cow::Owned(name.to_vec())),
            whole: Cow::Owned(multipart::field(name, value)),
            sent: None,
        }
    }

    fn is(&self, name: &[u8]) -> bool {
        self.name.as_deref() == Some(name)
    }

    fn rename(&mut self, name: &[u8]) {
        // Renaming comes first: all parts are as they were sent.
        if let Some(sent) = &self.sent {
            self.whole = Cow::Owned(sent.renamed(name));
            self.name = Some(Cow::Owned(name.to_vec()));
        }
    }
}
