//! What the gateway asks of the rest of the server.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::SystemTime};

use tokio::sync::watch;
use yinglong_model::{
    AgentId, Timestamp, config::AgentConfig, host::HostReport, id::Epoch, task::TaskResult,
};
use yinglong_pki::Serial;
use yinglong_proto::v1;
use yinglong_store::StateStore;

use crate::{
    fleet::{Enrolled, Fleet},
    gateway::{self, Durable, IncomingBatch, IntakeError, Joined, RedeemError},
    intake::Intake,
    log::Entry,
    settings::Settings,
};

/// Collection of task results.
const TASK_RESULTS: &str = "task_result";

/// Connects gateway, log and fleet.
pub(crate) struct Ports {
    pub(crate) intake: Intake,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) state: Arc<dyn StateStore>,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

impl gateway::Intake for Ports {
    fn acked(&self, agent: &AgentId, epoch: Epoch) -> u64 {
        self.intake.acked(agent, epoch)
    }

    fn accept(
        &self,
        batch: IncomingBatch,
    ) -> Pin<Box<dyn Future<Output = Result<Durable, IntakeError>> + Send + '_>> {
        let host = self.fleet.host(&batch.agent);
        let (ip, hostname, system) = host
            .map(|host| (host.ip, host.hostname, host.report.platform))
            .unwrap_or_default();
        let entry = Entry {
            agent: batch.agent,
            epoch: batch.epoch,
            first_seq: batch.first_seq,
            ingested_at: batch.received_at,
            ip,
            hostname,
            system,
            records: batch.records,
        };
        Box::pin(self.intake.queue(entry, batch.may_skip))
    }

    fn report(&self, agent: &AgentId, peer: IpAddr, report: HostReport) {
        self.fleet.report(agent, peer, report, now());
    }

    fn task_result(&self, agent: &AgentId, result: v1::TaskResult) {
        let outcome = TaskResult {
            task_id: result.task_id,
            agent_id: agent.clone(),
            ip: self
                .fleet
                .host(agent)
                .map(|host| host.ip)
                .unwrap_or_default(),
            status: if result.done { "true" } else { "false" }.to_owned(),
            data: result.data,
            time: now(),
        };
        let key = format!("{}/{agent}", outcome.task_id);
        let value = serde_json::to_value(&outcome).ok();
        if let Err(error) = self.state.put_documents(TASK_RESULTS, &[(key, value)]) {
            tracing::warn!(%agent, error = &error as &dyn std::error::Error, "a task result was not stored");
        }
    }
}

impl gateway::Roster for Ports {
    fn is_revoked(&self, agent: &AgentId, serial: &Serial) -> bool {
        !self.fleet.may_report(agent, serial.as_str())
    }

    fn redeem_token(&self, secret: &[u8; 16]) -> Result<(), RedeemError> {
        let redeemed = self.fleet.redeem(secret, now());
        Ok(redeemed.map_err(|error| RedeemError::Store(Box::new(error)))??)
    }

    fn enrolled(&self, joined: Joined) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let enrolled = Enrolled {
            serial: joined.serial.as_str().to_owned(),
            hostname: joined.hostname,
            address: joined.peer.to_string(),
            enrolled_at: now(),
            revoked_at: None,
        };
        Ok(self.fleet.admit(&joined.agent, enrolled)?)
    }

    fn agent_config(&self, _agent: &AgentId) -> AgentConfig {
        self.fleet.agent_config()
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.settings.changes()
    }
}
