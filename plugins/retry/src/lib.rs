//! The retry plugin
