//! What every stage may use: the byte budget.

pub mod budget;
