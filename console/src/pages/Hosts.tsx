import { Button, NativeSelect, TextInput, Tooltip } from "@mantine/core";
import { IconPlus, IconSearch } from "@tabler/icons-react";
import { Link, useSearchParams } from "react-router";

import { useHosts } from "../api/queries";
import type { Host, Sensor } from "../api/types";
import { HEALTHS } from "../api/types";
import { useTexts } from "../i18n";
import { count } from "../lib/format";
import { hostFilter, selectHosts, sensorState, tagsOf } from "../lib/hosts";
import { Ago, HealthMark, PageHead, useTypeName } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";
import { AddHost } from "./AddHost";

export function HostsPage() {
  const { t } = useTexts();
  const [search, setSearch] = useSearchParams();
  const hosts = useHosts();
  const filter = hostFilter(search);
  const shown = selectHosts(hosts.data ?? [], filter);

  const set = (key: string, value: string) => {
    const next = new URLSearchParams(search);
    if (value === "") next.delete(key);
    else next.set(key, value);
    setSearch(next, { replace: true });
  };

  return (
    <>
      <PageHead title={t("hosts.title")}>
        <Button
          size="xs"
          leftSection={<IconPlus size={14} aria-hidden />}
          onClick={() => set("add", "1")}
        >
          {t("hosts.add")}
        </Button>
      </PageHead>
      {search.get("add") === "1" && <AddHost onClose={() => set("add", "")} />}
      {hosts.isPending && <Loading />}
      {hosts.isError && <Failure error={hosts.error} retry={hosts.refetch} />}
      {hosts.data && !hosts.isError && hosts.data.length === 0 && (
        <div className="y-panel">
          <Empty title={t("hosts.empty")} hint={t("hosts.emptyHint")}>
            <Button size="xs" onClick={() => set("add", "1")}>
              {t("hosts.add")}
            </Button>
          </Empty>
        </div>
      )}
      {hosts.data && !hosts.isError && hosts.data.length > 0 && (
        <>
          <div className="y-filters" role="search">
            <div className="y-segments" role="group" aria-label={t("health.label")}>
              {["", ...HEALTHS.map(String)].map((health) => (
                <button
                  key={health}
                  type="button"
                  aria-pressed={filter.health === health}
                  onClick={() => set("health", health)}
                >
                  {health === "" ? t("state.all") : t(`health.${health}`)}
                </button>
              ))}
            </div>
            <NativeSelect
              size="xs"
              aria-label={t("hosts.tag")}
              value={filter.tag}
              onChange={(event) => set("tag", event.currentTarget.value)}
              data={[
                { value: "", label: `${t("hosts.tag")}: ${t("state.all")}` },
                ...tagsOf(hosts.data).map((tag) => ({ value: tag, label: tag })),
              ]}
            />
            <TextInput
              size="xs"
              className="y-grow"
              type="search"
              aria-label={t("hosts.filter")}
              placeholder={t("hosts.filter")}
              leftSection={<IconSearch size={14} aria-hidden />}
              value={filter.text}
              onChange={(event) => set("text", event.currentTarget.value)}
            />
            <span className="y-dim y-num" role="status">
              {t("hosts.total", { count: shown.length })}
            </span>
          </div>
          <div className="y-panel y-panel-flush">
            {shown.length === 0 ? (
              <Empty title={t("hosts.noMatch")} hint={t("hosts.noMatchHint")}>
                <Button
                  size="xs"
                  variant="default"
                  onClick={() => setSearch(new URLSearchParams())}
                >
                  {t("state.clear")}
                </Button>
              </Empty>
            ) : (
              <HostTable hosts={shown} />
            )}
          </div>
        </>
      )}
    </>
  );
}

function HostTable({ hosts }: { hosts: Host[] }) {
  const { t, lang } = useTexts();
  return (
    <table className="y-table y-stack" aria-label={t("hosts.title")}>
      <thead>
        <tr>
          <th scope="col">{t("health.label")}</th>
          <th scope="col">{t("hosts.name")}</th>
          <th scope="col">{t("hosts.address")}</th>
          <th scope="col">{t("hosts.system")}</th>
          <th scope="col">{t("hosts.sensors")}</th>
          <th scope="col">{t("hosts.lastSeen")}</th>
          <th scope="col" className="y-right">
            {t("hosts.openAlerts")}
          </th>
        </tr>
      </thead>
      <tbody>
        {hosts.map((host) => (
          <tr key={host.agent_id}>
            <td>
              <HealthMark health={host.health} />
            </td>
            <td className="y-nowrap">
              <Link to={`/hosts/${host.agent_id}`} className="y-strong">
                {host.hostname}
              </Link>{" "}
              {host.tags.map((tag) => (
                <span key={tag} className="y-tag">
                  {tag}
                </span>
              ))}
            </td>
            <td className="y-num y-nowrap">{host.ip}</td>
            <td className="y-dim y-cell-system">{host.system}</td>
            <td>
              <div className="y-sensors">
                {host.sensors.map((sensor) => (
                  <SensorMark key={sensor.stream} sensor={sensor} stale={host.health === 1} />
                ))}
              </div>
            </td>
            <td className="y-dim">
              <Ago time={host.uptime} />
            </td>
            <td
              className="y-right y-num"
              data-label={host.open_alerts > 0 ? t("hosts.openAlerts") : undefined}
            >
              {host.open_alerts > 0 && (
                <Link
                  to={`/alerts?status=0&agent_id=${host.agent_id}`}
                  aria-label={`${t("hosts.openAlerts")}: ${host.open_alerts}`}
                >
                  {count(host.open_alerts, lang)}
                </Link>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** One sensor: its stream, and on hover or focus which source it uses and why. */
export function SensorMark({ sensor, stale = false }: { sensor: Sensor; stale?: boolean }) {
  const { t } = useTexts();
  const typeName = useTypeName();
  const state = sensorState(sensor);
  const what = sensor.running ? sensor.source : t("hosts.notRunning");
  return (
    <Tooltip label={`${what} – ${sensor.reason || t("hosts.noReason")}`} events={TOUCH_TOO}>
      <span
        className="y-sensor"
        tabIndex={0}
        data-off={state === "off" || undefined}
        data-fallback={state === "fallback" || undefined}
        data-stale={stale || undefined}
      >
        {typeName(sensor.stream)}
      </span>
    </Tooltip>
  );
}

const TOUCH_TOO = { hover: true, focus: true, touch: true };
