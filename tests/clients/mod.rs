//! What third-party clients of the Admin API do and rely on. Each call here was recorded between the client and a real Kong.

mod kong_manager;
mod konga;
