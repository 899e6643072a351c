//! Prints the OpenAPI document of the Admin API with the bundled plugins; the Admin API page is made of it.

use silverback_admin::openapi_document;
use silverback_bundled::all as plugins;
use silverback_entities::CORE;

fn main() {
    let mut entities = CORE.clone();
    entities.extend(plugins().into_iter().flat_map(|p| p.entities));
    let document = openapi_document(entities, plugins(), env!("CARGO_PKG_VERSION"));
    println!("{document:#}");
}
