//! What watching system calls costs: CPU nanoseconds of one call, the least of many rounds.
//!
//! `cargo run -p yinglong-sensor-linux --example syscall_cost`, as root, on a quiet host.

use std::thread;

use nix::time::{ClockId, clock_gettime};
use yinglong_model::{
    DropReason, Observation,
    config::{AgentConfig, Client},
};
use yinglong_sensor::{Context, Error, Outlet};
use yinglong_sensor_linux::{
    accounts::Accounts,
    syscall::{Options, open},
    tree::Tree,
};

const ROUNDS: usize = 200;
const CALLS: u32 = 2_000;

/// Takes everything and keeps nothing.
struct Nowhere;

impl Outlet for Nowhere {
    fn emit(&mut self, _: Observation) {}
    fn lose(&mut self, _: DropReason, _: u64) {}
    fn filtered(&mut self, _: u64) {}
    fn mark(&mut self, _: &str, _: String) {}
    fn marked(&self, _: &str) -> Option<String> {
        None
    }
    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<28}{:>12}{:>12}", "", "getppid", "memfd_create");
    measure("without the sensor");
    for (name, syscall, syscall32) in [
        ("switched off", false, false),
        ("client.syscall", true, false),
        ("client.syscall32 as well", true, true),
    ] {
        let context = Context::default();
        context.set_config(AgentConfig {
            client: Client {
                syscall,
                syscall32,
                ..Client::default()
            },
            ..AgentConfig::default()
        });
        let options = Options::default();
        let mut sensor = open(Tree::default(), Accounts::default(), &options)?.sensor;
        let theirs = context.clone();
        let reader = thread::spawn(move || sensor.run(&theirs, &mut Nowhere));
        thread::sleep(Context::PATIENCE);
        measure(name);
        context.stop();
        reader.join().map_err(|_| "the sensor ended badly")??;
    }
    measure("without the sensor");
    Ok(())
}

fn measure(name: &str) {
    let other = least(|| {
        nix::unistd::getppid();
    });
    let watched = least(|| {
        let flags = nix::sys::memfd::MFdFlags::empty();
        drop(nix::sys::memfd::memfd_create("cost", flags));
    });
    println!("{name:<28}{other:>9} ns{watched:>9} ns");
}

fn least(call: impl Fn()) -> i64 {
    let nanos = || {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
    };
    let round = || {
        let start = nanos();
        for _ in 0..CALLS {
            call();
        }
        (nanos() - start) / i64::from(CALLS)
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}
