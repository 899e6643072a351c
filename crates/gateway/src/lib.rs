//! Composition root and command line of the Silverback API gateway
