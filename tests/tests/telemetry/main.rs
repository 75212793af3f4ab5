//! Telemetry as a collector receives it: from real processes, over OTLP, into a receiver of the test's own.
#![cfg(test)]

mod deployment;
mod files;
mod journey;
mod literals;
mod observed;
mod off;
mod receiver;
mod seen;
mod trouble;
