//! Hosts: who may report, what they reported about themselves, whether they are alive.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use yinglong_model::{
    AgentId, Timestamp,
    config::AgentConfig,
    host::{Health, Host, HostReport},
};
use yinglong_pki::{JoinToken, TokenError, TokenRecord};
use yinglong_store::{Result, StateStore};

use crate::settings::Settings;

/// Silence after which a host is offline. Heartbeats come every 60 s.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(5 * 60);

const TOKENS: &str = "tokens";
const AGENTS: &str = "agents";

/// An enrolled agent: one document of the `agents` collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Serial of its certificate, hex.
    pub serial: String,
    /// Name the host gave when it joined.
    pub hostname: String,
    /// Address it joined from.
    pub address: String,
    /// When.
    pub enrolled_at: Timestamp,
    /// When a person revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// The fleet as this node knows it.
pub struct Fleet {
    state: Arc<dyn StateStore>,
    settings: Arc<Settings>,
    /// Addresses agents use to reach this server; never reported as peers.
    servers: Vec<String>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    hosts: HashMap<AgentId, Host>,
    /// Hosts that changed since the last [`Fleet::flush`].
    dirty: HashSet<AgentId>,
    agents: HashMap<AgentId, Enrolled>,
}

impl Fleet {
    /// Loads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        state: Arc<dyn StateStore>,
        settings: Arc<Settings>,
        servers: Vec<String>,
    ) -> Result<Self> {
        let hosts = state
            .hosts()?
            .into_iter()
            .map(|host| (host.agent_id.clone(), host))
            .collect();
        let mut agents = HashMap::new();
        for (key, value) in state.documents(AGENTS)? {
            match (key.parse(), serde_json::from_value(value)) {
                (Ok(id), Ok(enrolled)) => drop(agents.insert(id, enrolled)),
                _ => tracing::error!(key, "a stored agent cannot be read; it must enrol again"),
            }
        }
        let members = Mutex::new(Members {
            hosts,
            agents,
            dirty: HashSet::new(),
        });
        Ok(Self {
            state,
            settings,
            servers,
            members,
        })
    }

    /// Makes a join token; its secret is only ever in the answer.
    ///
    /// # Errors
    /// The store refuses.
    pub fn new_token(
        &self,
        token: &JoinToken,
        now: Timestamp,
        lifetime: Duration,
        uses: u32,
    ) -> Result<TokenRecord> {
        let record = TokenRecord::new(token, now, lifetime, uses);
        let value = serde_json::to_value(&record).ok();
        self.state
            .put_documents(TOKENS, &[(record.id().to_owned(), value)])?;
        Ok(record)
    }

    /// Tokens that exist, without their secrets.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>> {
        let documents = self.state.documents(TOKENS)?;
        Ok(documents
            .into_iter()
            .filter_map(|(_, v)| serde_json::from_value(v).ok())
            .collect())
    }

    /// Uses a token up once. One at a time, so that a token for one host admits one host.
    ///
    /// # Errors
    /// The outer one: the store refuses. The inner one: the token does.
    pub fn redeem(
        &self,
        secret: &[u8; 16],
        now: Timestamp,
    ) -> Result<std::result::Result<(), TokenError>> {
        let _one = self.lock();
        let mut tokens = self.tokens()?;
        let changed = match yinglong_pki::token::redeem(&mut tokens, secret, now) {
            Ok(record) => record.clone(),
            Err(refused) => return Ok(Err(refused)),
        };
        let value = serde_json::to_value(&changed).ok();
        self.state
            .put_documents(TOKENS, &[(changed.id().to_owned(), value)])?;
        Ok(Ok(()))
    }

    /// Admits an agent.
    ///
    /// # Errors
    /// The store refuses.
    pub fn admit(&self, agent: &AgentId, enrolled: Enrolled) -> Result<()> {
        let value = serde_json::to_value(&enrolled).ok();
        self.state
            .put_documents(AGENTS, &[(agent.to_string(), value)])?;
        self.lock().agents.insert(agent.clone(), enrolled);
        Ok(())
    }

    /// Shuts an agent out for good; its host must enrol again. `false` when there is no such agent.
    ///
    /// # Errors
    /// The store refuses.
    pub fn revoke(&self, agent: &AgentId, now: Timestamp) -> Result<bool> {
        let mut members = self.lock();
        let Some(enrolled) = members.agents.get_mut(agent) else {
            return Ok(false);
        };
        enrolled.revoked_at.get_or_insert(now);
        let value = serde_json::to_value(&*enrolled).ok();
        self.state
            .put_documents(AGENTS, &[(agent.to_string(), value)])?;
        drop(members);
        self.settings.touch();
        Ok(true)
    }

    /// Whether an agent with this certificate may report: it enrolled here, with this very
    /// certificate, and was not revoked.
    pub fn may_report(&self, agent: &AgentId, serial: &str) -> bool {
        let members = self.lock();
        members
            .agents
            .get(agent)
            .is_some_and(|a| a.revoked_at.is_none() && a.serial == serial)
    }

    /// Takes an agent's report in: also its heartbeat. Does not block; stored by the next
    /// [`Fleet::flush`].
    pub fn report(&self, agent: &AgentId, peer: IpAddr, mut report: HostReport, now: Timestamp) {
        if report.ip.is_empty() {
            report.ip = peer.to_string();
        }
        let mut members = self.lock();
        let known = members.hosts.get(agent);
        let enrolled = members
            .agents
            .get(agent)
            .map(|enrolled| enrolled.enrolled_at);
        let host = Host {
            agent_id: agent.clone(),
            ip: report.ip.clone(),
            hostname: report.hostname.clone(),
            path: report.path.clone(),
            system: report.system.clone(),
            kind: report.tags.first().cloned().unwrap_or_default(),
            uptime: now,
            health: Health::Healthy,
            enrolled_at: known
                .map(|host| host.enrolled_at)
                .or(enrolled)
                .unwrap_or(now),
            report,
        };
        members.hosts.insert(agent.clone(), host);
        members.dirty.insert(agent.clone());
    }

    /// Stores the hosts that changed. A heartbeat that a crash takes away comes again in a minute.
    ///
    /// # Errors
    /// The store refuses; the hosts are stored by the next call.
    pub fn flush(&self) -> Result<()> {
        let changed: Vec<Host> = {
            let mut members = self.lock();
            let dirty = std::mem::take(&mut members.dirty);
            dirty
                .iter()
                .filter_map(|agent| members.hosts.get(agent).cloned())
                .collect()
        };
        for host in &changed {
            if let Err(error) = self.state.put_host(host) {
                self.lock()
                    .dirty
                    .extend(changed.into_iter().map(|host| host.agent_id));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Marks hosts that fell silent; returns those that just did.
    pub fn sweep(&self, now: Timestamp) -> Vec<Host> {
        let mut members = self.lock();
        let mut silent = Vec::new();
        for host in members.hosts.values_mut() {
            if host.health != Health::Offline && now.since(host.uptime) >= OFFLINE_AFTER {
                host.health = Health::Offline;
                silent.push(host.clone());
            }
        }
        members
            .dirty
            .extend(silent.iter().map(|host| host.agent_id.clone()));
        silent
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.lock().hosts.values().cloned().collect();
        hosts.sort_by(|a, b| (&a.hostname, &a.agent_id).cmp(&(&b.hostname, &b.agent_id)));
        hosts
    }

    /// One host.
    pub fn host(&self, agent: &AgentId) -> Option<Host> {
        self.lock().hosts.get(agent).cloned()
    }

    /// All agents that ever enrolled.
    pub fn agents(&self) -> Vec<(AgentId, Enrolled)> {
        self.lock()
            .agents
            .iter()
            .map(|(id, agent)| (id.clone(), agent.clone()))
            .collect()
    }

    /// What an agent has to follow.
    pub fn agent_config(&self) -> AgentConfig {
        let settings = self.settings.current();
        AgentConfig {
            revision: settings.revision,
            client: settings.config.client.clone(),
            filter: settings.config.filter.clone(),
            servers: self.servers.clone(),
            tags: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
