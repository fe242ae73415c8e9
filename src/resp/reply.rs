//! What Tidegate answers, independent of the protocol version.
