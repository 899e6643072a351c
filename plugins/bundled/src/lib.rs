//! Every plugin that comes with Silverback
