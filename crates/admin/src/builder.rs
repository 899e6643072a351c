//! [`AdminBuilder`]: from the parts that the gateway has to an [`AdminServer`].

use std::sync::Arc;

use http::HeaderValue;
use serde_json::{Map, Value};
use silverback_declarative::Format;
use silverback_plugin::{PluginDef, Services};
use silverback_schema::{EntityDef, Violations};
use silverback_store::Store;

use crate::app::{self, App};
use crate::auth::{Guard, Tokens};
use crate::cors::Origins;
use crate::crud::NoServices;
use crate::declarative::Declarative;
use crate::info::NodeInfo;
use crate::model::Model;
use crate::openapi;
use crate::server::{AdminError, AdminServer, Certificate, Listen};
use crate::status::{ProcessOnly, StatusSource};
use crate::table::{self, Endpoint};

/// Builds an [`AdminServer`].
pub struct AdminBuilder {
    store: Store,
    node: NodeInfo,
    model: Model,
    status: Arc<dyn StatusSource>,
    services: Arc<dyn Services>,
    origins: Origins,
    listen: Vec<Listen>,
    certificates: Vec<Certificate>,
    declarative: Option<Declarative>,
    authorities: Option<Vec<u8>>,
    guard: Guard,
}

impl AdminBuilder {
    /// An API over these entities. `entities` are those that the store was made with: the core ones
    /// ([`silverback_entities::CORE`]) and those that `plugins` bring ([`PluginDef::entities`]).
    pub fn new(
        store: Store,
        entities: Vec<EntityDef>,
        plugins: Vec<PluginDef>,
        node: NodeInfo,
    ) -> Self {
        let declarative = (!store.has_database())
            .then(|| Declarative::new(Format::new(entities.clone(), &plugins)));
        AdminBuilder {
            declarative,
            services: Arc::new(NoServices {
                has_database: store.has_database(),
            }),
            store,
            node,
            model: Model::new(entities, plugins),
            status: Arc::new(ProcessOnly),
            origins: Origins::default(),
            listen: Vec::new(),
            certificates: Vec::new(),
            authorities: None,
            guard: Guard::default(),
        }
    }

    /// Where facts about the node come from; without it only those of the process are known.
    pub fn status(mut self, source: Arc<dyn StatusSource>) -> Self {
        self.status = source;
        self
    }

    /// What the node offers to the endpoints of plugins: the same as to the plugins. Without it they find nothing that is shared.
    pub fn services(mut self, services: Arc<dyn Services>) -> Self {
        self.services = services;
        self
    }

    /// URLs of user interfaces (`admin_gui_url`): with any, browsers may use the API from those only.
    pub fn gui_urls(mut self, urls: &[String]) -> Self {
        self.origins = Origins::new(urls);
        self
    }

    /// One more address to listen on.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen.push(listen);
        self
    }

    /// A certificate for the TLS listeners; several when there are several kinds of keys.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// Where the tokens are that are known. With `required` nobody gets in without one, but for those with a certificate of
    /// [`AdminBuilder::client_authorities`]; else a token says who it is and what may be done, and none is needed.
    pub fn tokens(mut self, tokens: Tokens, required: bool) -> Self {
        self.guard.tokens = tokens;
        self.guard.token_required = required;
        self
    }

    /// Authorities (PEM) whose certificates let clients of the TLS listeners in. Without one, and without a token, they are refused.
    pub fn client_authorities(mut self, pem: Vec<u8>) -> Self {
        self.authorities = Some(pem);
        self.guard.certificates = true;
        self
    }

    /// A check of complete rows of an entity before they are stored, for what only the rest of the gateway can tell, such as whether a
    /// route can be built into the router.
    pub fn check(
        mut self,
        entity: &str,
        check: impl Fn(&Map<String, Value>) -> Result<(), Violations> + Send + Sync + 'static,
    ) -> Self {
        self.model.add_check(entity, Box::new(check));
        self
    }

    /// Binds the listeners. Connections are accepted when [`AdminServer::run`] is called.
    ///
    /// # Errors
    /// When an address is taken or a certificate cannot be used.
    pub fn bind(self) -> Result<AdminServer, AdminError> {
        let product = HeaderValue::try_from(format!("silverback/{}", self.node.version))
            .unwrap_or(HeaderValue::from_static("silverback"));
        let endpoints: Arc<[Endpoint]> = table::endpoints(&self.model).into();
        let mut paths = matchit::Router::new();
        for (i, endpoint) in endpoints.iter().enumerate() {
            if let Err(error) = paths.insert(endpoint.path.clone(), i) {
                // The router that is made of the same paths would not have it either.
                tracing::error!(path = endpoint.path, %error, "an endpoint is left out of batches");
            }
        }
        let document = openapi::document(&self.model, &endpoints, &self.node.version);
        let app = App {
            endpoints,
            openapi: document.to_string().into(),
            paths: Arc::new(paths),
            store: self.store,
            model: Arc::new(self.model),
            node: Arc::new(self.node),
            status: self.status,
            services: self.services,
            origins: Arc::new(self.origins),
            declarative: self.declarative.map(Arc::new),
            guard: self.guard,
            product,
        };
        AdminServer::bind(
            app::router(Arc::new(app)),
            &self.listen,
            &self.certificates,
            self.authorities.as_deref(),
        )
    }
}
