//! What tells of logins on Linux: records of utmp, lines of syslog, entries of the journal, records of the
//! audit subsystem, databases. The first byte of the input chooses which.

#![no_main]

use libfuzzer_sys::fuzz_target;
use yinglong_sensor_linux::logins::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::read(bytes));
