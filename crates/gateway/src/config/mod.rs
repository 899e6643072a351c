//! The configuration of a node: `silverback.conf`, environment variables, command line.
//!
//! [`Loader`] puts the layers together and reports everything that is wrong at once; [`Config`] is the
//! typed result. What settings there are stands in one table, [`SETTINGS`], and nowhere else; the
//! default file ([`default_conf`]) and the reference ([`reference_markdown`]) are made from it.
//!
//! Not here: entities such as services and routes, which live in the database.

mod check;
mod kong;
mod layers;
mod listen;
mod load;
mod net;
mod number;
mod parse;
mod pem;
mod render;
pub mod selfsigned;
mod table;
mod tokens;
mod value;
mod words;

pub use listen::Listener;
pub(crate) use load::record;
pub use load::{ConfigError, Loaded, Loader, Origin, Problem, Source};
pub use net::{Cidr, DnsOrder, TlsVersion};
pub use number::Workers;
pub use pem::{PemSource, TrustedCertificate};
pub use render::{default_conf, reference_markdown};
pub use table::{Config, SETTINGS, Setting};
pub use tokens::{Instrumentations, PluginSelection, ResponseHeaders, UpstreamHeaders};
pub use value::{Codec, Secret, Target};
pub use words::{Database, ErrorType, LogLevel, Role, RouterFlavor};
