//! Entities compiled into the snapshot a node serves from
