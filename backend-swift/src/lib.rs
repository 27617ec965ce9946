//! Swift's dialect as a pure machine, and a thin HTTP client.
