//! Configuration in one line: a service, its route, its plugins.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::Gateway;
use crate::upstream::Upstream;

/// A service with one route, and plugins on the service; made over the Admin API by [`Service::create`].
#[must_use]
pub struct Service<'a> {
    gateway: &'a Gateway,
    name: String,
    service: Map<String, Value>,
    route: Map<String, Value>,
    plugins: Vec<(String, Value)>,
}

impl Gateway {
    /// A service of that upstream, with a route of the same name; the route still needs something to match.
    pub fn service(&self, name: &str, upstream: &Upstream) -> Service<'_> {
        self.service_at(name, &upstream.url())
    }

    /// A service at that URL.
    pub fn service_at(&self, name: &str, url: &str) -> Service<'_> {
        let mut service = Map::new();
        service.insert("name".into(), name.into());
        service.insert("url".into(), url.into());
        let mut route = Map::new();
        route.insert("name".into(), name.into());
        Service {
            gateway: self,
            name: name.to_owned(),
            service,
            route,
            plugins: Vec::new(),
        }
    }

    /// Adds a plugin: `at` is empty for a global one, or `/services/x`, `/routes/x`, `/consumers/x`. Returns its id.
    ///
    /// # Errors
    /// What the Admin API says.
    pub async fn plugin(&self, at: &str, name: &str, config: Value) -> anyhow::Result<String> {
        let body = json!({ "name": name, "config": config });
        let made = self.admin().post(&format!("{at}/plugins"), &body);
        id_of(&made.expect(201).await?.json())
    }

    /// Adds a consumer with a key for key-auth. Returns its id.
    ///
    /// # Errors
    /// What the Admin API says.
    pub async fn consumer(&self, name: &str, key: &str) -> anyhow::Result<String> {
        let admin = self.admin();
        let made = admin.post("/consumers", &json!({ "username": name }));
        let id = id_of(&made.expect(201).await?.json())?;
        admin
            .post(&format!("/consumers/{id}/key-auth"), &json!({ "key": key }))
            .expect(201)
            .await?;
        Ok(id)
    }
}

impl Service<'_> {
    /// Sets a field of the service.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.service.insert(field.to_owned(), value);
        self
    }

    /// Sets a field of the route.
    pub fn route(mut self, field: &str, value: Value) -> Self {
        self.route.insert(field.to_owned(), value);
        self
    }

    /// The paths of the route.
    pub fn paths<const N: usize>(self, paths: [&str; N]) -> Self {
        self.route("paths", json!(paths.to_vec()))
    }

    /// The hosts of the route.
    pub fn hosts<const N: usize>(self, hosts: [&str; N]) -> Self {
        self.route("hosts", json!(hosts.to_vec()))
    }

    /// A plugin on the service.
    pub fn plugin(mut self, name: &str, config: Value) -> Self {
        self.plugins.push((name.to_owned(), config));
        self
    }

    /// Makes all of it. Returns the id of the service.
    ///
    /// # Errors
    /// What the Admin API says.
    pub async fn create(self) -> anyhow::Result<String> {
        let admin = self.gateway.admin();
        let made = admin.post("/services", &Value::Object(self.service));
        let id = id_of(&made.expect(201).await?.json())?;
        admin
            .post(
                &format!("/services/{id}/routes"),
                &Value::Object(self.route),
            )
            .expect(201)
            .await?;
        for (name, config) in self.plugins {
            self.gateway
                .plugin(&format!("/services/{}", self.name), &name, config)
                .await?;
        }
        Ok(id)
    }
}

fn id_of(row: &Value) -> anyhow::Result<String> {
    Ok(row["id"].as_str().context("a row has an id")?.to_owned())
}
