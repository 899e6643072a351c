//! What the plugin is told.

use serde_json::Value;
use silverback_plugin::pairs;
use silverback_plugin::schema::field::{array, record, string};
use silverback_plugin::schema::{Field, record};

use crate::template::Template;

record! {
    /// Settings of `request-transformer`.
    pub struct Config {
        /// The method that the upstream sees.
        pub http_method: Option<String> = string().matches("^%u+$"),
        /// What is taken away, before all else.
        pub remove: Names = record::<Names>().required(),
        /// What gets another name.
        pub rename: Renames = record::<Renames>().required(),
        /// What gets another value where it is there.
        pub replace: Replacements = record::<Replacements>().required(),
        /// What is put in where it is not there.
        pub add: Values = record::<Values>().required(),
        /// What is put in beside what is there.
        pub append: Values = record::<Values>().required(),
    }
}

record! {
    /// Names of what is taken away.
    pub struct Names {
        /// Fields of the body.
        pub body: Vec<String> = list(string()),
        /// Headers.
        pub headers: Vec<String> = list(string().check(pairs::header_name)),
        /// Arguments of the query.
        pub querystring: Vec<String> = list(string()),
    }
}

record! {
    /// Old and new names.
    pub struct Renames {
        /// Fields of the body, `old:new`.
        pub body: Vec<String> = list(string().check(value)),
        /// Headers, `old:new`.
        pub headers: Vec<String> = list(string().matches("^[^:]+:.*$").check(pairs::header_names)),
        /// Arguments of the query, `old:new`.
        pub querystring: Vec<String> = list(string().check(value)),
    }
}

record! {
    /// Names and values of what is there, and the path.
    pub struct Replacements {
        /// Fields of the body, `name:value`.
        pub body: Vec<String> = list(string().check(value)),
        /// Headers, `name:value`.
        pub headers: Vec<String> = list(header_and_value()),
        /// Arguments of the query, `name:value`.
        pub querystring: Vec<String> = list(string().check(value)),
        /// The path that the upstream sees, in place of the one that routing gives.
        pub uri: Option<String> = string().check(template),
    }
}

record! {
    /// Names and values.
    pub struct Values {
        /// Fields of the body, `name:value`.
        pub body: Vec<String> = list(string().check(value)),
        /// Headers, `name:value`.
        pub headers: Vec<String> = list(header_and_value()),
        /// Arguments of the query, `name:value`.
        pub querystring: Vec<String> = list(string().check(value)),
    }
}

fn list(elements: Field) -> Field {
    array(elements).required().default(Vec::<Value>::new())
}

fn header_and_value() -> Field {
    string()
        .matches("^[^:]+:.*$")
        .check(pairs::header_name)
        .check(header_value)
}

/// The right side must be there, and a template that can be made.
fn value(pair: &Value) -> Result<(), String> {
    let (name, value) = sides(pair);
    if value.is_empty() {
        return Err(format!("key '{name}' has no value"));
    }
    compiles(value)
}

/// The right side of a header may be missing: the entry then does nothing.
fn header_value(pair: &Value) -> Result<(), String> {
    compiles(sides(pair).1)
}

fn template(text: &Value) -> Result<(), String> {
    compiles(text.as_str().unwrap_or_default())
}

fn sides(pair: &Value) -> (&str, &str) {
    pair.as_str().and_then(pairs::split).unwrap_or_default()
}

fn compiles(value: &str) -> Result<(), String> {
    match Template::parse(value) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!(
            "value '{value}' is not in supported format, error:{e}"
        )),
    }
}
