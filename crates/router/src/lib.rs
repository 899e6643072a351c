//! Request to route: the traditional router
