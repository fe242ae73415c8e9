//! Behaviour of single commands.
