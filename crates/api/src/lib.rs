//! JSON-RPC, health and web doors; wire types only here.
