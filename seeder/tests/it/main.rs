//! The seeder over loopback: real HTTP, real clips made by ffmpeg, the real program.

mod annotate;
mod api;
mod cli;
mod counters;
mod delta;
mod deploy;
mod doctor;
mod edge;
mod faults;
mod hot;
mod http;
mod layouts;
mod live;
mod mirror;
mod origin;
mod package;
mod restarts;
mod signaling;
mod signing;
mod support;
mod tags;
