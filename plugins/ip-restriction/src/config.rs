//! What the plugin is told.

use silverback_plugin::schema::field::{array, number, string};
use silverback_plugin::schema::record;
use silverback_plugin::schema::typedefs::ip_or_cidr;

record! {
    /// Settings of `ip-restriction`.
    pub struct Config {
        /// Only clients with these addresses, or from these blocks of addresses, are let in.
        pub allow: Option<Vec<String>> = array(ip_or_cidr()),
        /// Clients with these addresses, or from these blocks of addresses, are kept out.
        pub deny: Option<Vec<String>> = array(ip_or_cidr()),
        /// The status of the answer to those who are kept out; 403 when null.
        pub status: Option<f64> = number().optional(),
        /// The text of the answer to those who are kept out.
        pub message: Option<String> = string().optional(),
    }
}
