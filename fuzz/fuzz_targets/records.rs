//! Records of the kernel's rings and queues. Nobody but the kernel writes them; what a process can
//! put into them (names, arguments, addresses) is any bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use yinglong_sensor_linux::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::records(bytes));
