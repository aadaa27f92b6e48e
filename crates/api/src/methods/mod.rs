//! The methods, one file a group.

mod control;

use crate::table::Method;

/// Every group's methods.
pub(crate) static GROUPS: &[&[Method]] = &[control::METHODS];
