//! Packets of anybody: frames, DNS messages, DNS in TCP segments.

#![no_main]

use libfuzzer_sys::fuzz_target;
use yinglong_sensor_linux::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::packet(bytes));
