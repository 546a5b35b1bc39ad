//! Logs of auditd.
//!
//! A line is `type=NAME msg=audit(SECONDS.MILLIS:SERIAL): k=v k="v" ...`, with `node=NAME` before it
//! when the daemon forwards. Values that contain quotes, blanks or control characters are written in
//! hexadecimal without quotes; a group separator divides what the kernel said from the names that an
//! enriching daemon added. Records with the same serial are one event.

mod decode;
mod events;
mod parents;
mod syscalls;
mod views;

pub(crate) use decode::{Raw, record};
pub(crate) use events::{Event, Events};
pub(crate) use parents::Parents;
pub(crate) use views::views;
