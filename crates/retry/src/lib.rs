//! When to retry, and the retry budget
