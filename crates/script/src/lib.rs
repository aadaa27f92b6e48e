//! Relay-policy script checks and Core's script error names.
