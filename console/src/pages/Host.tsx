import { Anchor, Button, Modal } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconArrowLeft, IconSearch } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";

import { useAlerts, useHost, useLearn, useRevoke } from "../api/queries";
import type { HostDetail, Sensor } from "../api/types";
import { useTexts } from "../i18n";
import { usualStatus } from "../lib/filters";
import { bytes, count, duration, excerpt } from "../lib/format";
import { lesserRung } from "../lib/hosts";
import { Books } from "../ui/Books";
import { Ago, At, Copy, HealthMark, LevelMark, PageHead, Panel, StatusMark } from "../ui/parts";
import { useSourceName } from "../ui/parts";
import { Empty, Failure, InlineError, Loading } from "../ui/State";
import { SensorMark } from "./Hosts";
import { Inventories } from "./Inventories";

const RECENT = 8;

export function HostPage() {
  const { t } = useTexts();
  const { id = "" } = useParams();
  const host = useHost(id);
  return (
    <>
      <Anchor component={Link} to="/hosts" className="y-back">
        <IconArrowLeft size={14} aria-hidden /> {t("hosts.title")}
      </Anchor>
      {host.isPending && <Loading />}
      {host.isError && !host.data && <Failure error={host.error} retry={host.refetch} />}
      {host.data && <Detail host={host.data} />}
    </>
  );
}

function Detail({ host }: { host: HostDetail }) {
  const { t } = useTexts();
  const [revoking, setRevoking] = useState(false);
  const q = `type:process | ip:${host.ip}`;
  return (
    <>
      <PageHead title={host.hostname}>
        <Button
          size="xs"
          variant="default"
          component={Link}
          to={`/search?${new URLSearchParams({ q }).toString()}`}
          leftSection={<IconSearch size={14} aria-hidden />}
        >
          {t("host.searchEvents")}
        </Button>
        <Button size="xs" variant="default" onClick={() => setRevoking(true)}>
          {t("host.revoke")} …
        </Button>
      </PageHead>
      {revoking && <Revoke host={host} onClose={() => setRevoking(false)} />}
      <div className="y-facts-line">
        <HealthMark health={host.health} />
        <span className="y-num">{host.ip}</span>
        <Ago time={host.uptime} />
        {host.tags.map((tag) => (
          <span key={tag} className="y-tag">
            {tag}
          </span>
        ))}
      </div>
      <div className="y-host">
        <div className="y-column">
          <Facts host={host} />
          <Panel title={t("host.webRoots")}>
            {host.path.length === 0 ? (
              <p className="y-dim">{t("host.noWebRoots")}</p>
            ) : (
              <ul className="y-reasons y-mono">
                {host.path.map((path) => (
                  <li key={path}>{path}</li>
                ))}
              </ul>
            )}
          </Panel>
        </div>
        <div className="y-column">
          <Sensors host={host} />
          <Recent host={host} />
        </div>
      </div>
      <Panel title={t("host.books")} flush>
        {Object.keys(host.ledger).length === 0 ? (
          <p className="y-dim y-padded">{t("host.noBooks")}</p>
        ) : (
          <Books streams={host.ledger} label={t("host.books")} />
        )}
      </Panel>
      <Inventories host={host} />
    </>
  );
}

function Facts({ host }: { host: HostDetail }) {
  const { t, lang } = useTexts();
  const facts: [string, ReactNode][] = [
    [t("hosts.system"), host.system],
    [t("host.addresses"), host.addresses.join(", ")],
    [t("hosts.lastSeen"), <At key="seen" time={host.uptime} />],
    [t("host.enrolled"), <At key="enrolled" time={host.enrolled_at} />],
    [t("hosts.agent"), host.agent_version],
    [t("host.cpu"), duration(host.usage.cpu_ms / 1000, lang)],
    [t("host.memory"), bytes(host.usage.pss_bytes)],
    [
      t("host.spool"),
      t("host.spoolValue", {
        events: count(host.usage.spool_events, lang),
        size: bytes(host.usage.spool_bytes),
      }),
    ],
    [
      t("host.id"),
      <span key="id" className="y-mono y-id">
        {host.agent_id} <Copy value={host.agent_id} />
      </span>,
    ],
  ];
  return (
    <Panel title={t("host.facts")}>
      <dl className="y-facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}

function Sensors({ host }: { host: HostDetail }) {
  const { t } = useTexts();
  return (
    <Panel title={t("host.sensors")} flush>
      <table className="y-table">
        <thead>
          <tr>
            <th scope="col">{t("host.stream")}</th>
            <th scope="col">{t("host.source")}</th>
            <th scope="col">{t("host.state")}</th>
            <th scope="col">{t("host.why")}</th>
          </tr>
        </thead>
        <tbody>
          {host.sensors.map((sensor) => (
            <tr key={sensor.stream}>
              <td>
                <SensorMark sensor={sensor} />
              </td>
              <td>
                <span className="y-mono">{sensor.source || "–"}</span>
                {sensor.rung != null && (
                  <div className="y-dim">{t("host.rung", { rung: sensor.rung })}</div>
                )}
              </td>
              <td>{sensor.running ? t("hosts.running") : t("hosts.notRunning")}</td>
              <td className="y-dim">
                {sensor.reason || t("hosts.noReason")}
                <Consequence sensor={sensor} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

/** What the source of a sensor misses, in the reader's language if it is known there. */
function Consequence({ sensor }: { sensor: Sensor }) {
  const { t } = useTexts();
  const rung = lesserRung(sensor);
  if (!sensor.consequence) return null;
  return (
    <div>
      {t("host.costs")} {rung ? t(`host.rungs.${rung}`) : sensor.consequence}
    </div>
  );
}

function Recent({ host }: { host: HostDetail }) {
  const { t } = useTexts();
  const sourceName = useSourceName();
  const learn = useLearn();
  const status = usualStatus(learn);
  const alerts = useAlerts({ agent_id: host.agent_id, status, limit: RECENT });
  const all = (
    <Link to={`/alerts?status=all&agent_id=${host.agent_id}`}>{t("host.allAlerts")}</Link>
  );
  return (
    <Panel title={t("host.alerts")} aside={all} flush>
      {alerts.isPending && <Loading />}
      {alerts.isError && <Failure error={alerts.error} retry={alerts.refetch} />}
      {alerts.data?.alerts.length === 0 && <Empty title={t(learn ? "host.noLearned" : "host.noAlerts")} />}
      <table className="y-table y-stack">
        <tbody>
          {alerts.data?.alerts.map((alert) => (
            <tr key={alert.id}>
              <td className="y-nowrap">
                <LevelMark level={alert.level} /> {learn && <StatusMark status={alert.status} />}
              </td>
              <td className="y-dim">
                <Ago time={alert.time} />
              </td>
              <td>
                <Link to={`/alerts/${alert.id}`}>{sourceName(alert.source)}</Link>
              </td>
              <td className="y-cell-info y-mono" title={excerpt(alert.info)}>
                <span>{alert.info}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

function Revoke({ host, onClose }: { host: HostDetail; onClose: () => void }) {
  const { t } = useTexts();
  const navigate = useNavigate();
  const revoke = useRevoke(host.agent_id);
  const done = () => {
    notifications.show({ message: t("host.revoked", { host: host.hostname }) });
    void navigate("/hosts");
  };
  return (
    <Modal
      opened
      onClose={onClose}
      title={t("host.revokeTitle")}
      closeButtonProps={{ "aria-label": t("state.close") }}
    >
      <div className="y-form">
        <p>{t("host.revokeBody", { host: host.hostname })}</p>
        {revoke.isError && <InlineError error={revoke.error} />}
        <div className="y-page-actions">
          <Button variant="default" onClick={onClose} data-autofocus>
            {t("state.cancel")}
          </Button>
          <Button
            color="red"
            loading={revoke.isPending}
            onClick={() => revoke.mutate(undefined, { onSuccess: done })}
          >
            {t("host.revoke")}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
