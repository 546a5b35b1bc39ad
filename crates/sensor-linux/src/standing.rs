//! Tells how a sensor stands when that is not what was told before.

use std::time::{Duration, Instant};

use yinglong_model::host::SensorStatus;
use yinglong_sensor::{Outlet, Sensor};

/// Shortest time between two looks of [`Standing::look`]: making a status allocates.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    told: Option<SensorStatus>,
    looked: Option<Instant>,
}

impl Standing {
    /// Tells the sensor's status if it changed.
    pub(crate) fn tell(&mut self, sensor: &dyn Sensor, outlet: &mut dyn Outlet) {
        self.looked = Some(Instant::now());
        let status = sensor.status();
        if self.told.as_ref() != Some(&status) {
            outlet.status(status.clone());
            self.told = Some(status);
        }
    }

    /// The same, for sensors that ask more often than a status is worth making.
    pub(crate) fn look(&mut self, sensor: &dyn Sensor, outlet: &mut dyn Outlet) {
        if self.looked.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.tell(sensor, outlet);
        }
    }
}
