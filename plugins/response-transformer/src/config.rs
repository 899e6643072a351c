//! What the plugin is told.

use serde_json::Value;
use silverback_plugin::pairs;
use silverback_plugin::schema::field::{array, record, string};
use silverback_plugin::schema::{Field, record};

record! {
    /// Settings of `response-transformer`.
    pub struct Config {
        /// What is taken away, before all else.
        pub remove: Names = record::<Names>().required(),
        /// What gets another name.
        pub rename: Renames = record::<Renames>().required(),
        /// What gets another value where it is there.
        pub replace: Values = record::<Values>().required(),
        /// What is put in where it is not there.
        pub add: Values = record::<Values>().required(),
        /// What is put in beside what is there.
        pub append: Values = record::<Values>().required(),
    }
}

record! {
    /// Names of what is taken away.
    pub struct Names {
        /// Members of the JSON object that is the body.
        pub json: Vec<String> = array(string()).required().default(nothing()),
        /// Headers.
        pub headers: Vec<String> = array(string()).required().default(nothing()),
    }
}

record! {
    /// Old and new names.
    pub struct Renames {
        /// Members of the JSON object that is the body, `old:new`.
        pub json: Vec<String> = array(pair()).required().default(nothing()),
        /// Headers, `old:new`.
        pub headers: Vec<String> = array(pair().check(pairs::header_names)).required().default(nothing()),
    }
}

record! {
    /// Names and values.
    pub struct Values {
        /// Members of the JSON object that is the body, `name:value`.
        pub json: Vec<String> = array(pair()).required().default(nothing()),
        /// The types of the values in `json`, in the same order; `string` for those without one.
        pub json_types: Vec<String> = array(string().one_of(["boolean", "number", "string"])).required().default(nothing()),
        /// Headers, `name:value`.
        pub headers: Vec<String> = array(pair()).required().default(nothing()),
    }
}

fn nothing() -> Vec<Value> {
    Vec::new()
}

fn pair() -> Field {
    string().matches("^[^:]+:.*$")
}
