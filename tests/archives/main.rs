//! Archives of every dialect into a store and out again; hostile ones; interrupted ones.

mod build;
mod hostile;
mod interrupted;
mod keeping;
mod real;
mod round_trip;
