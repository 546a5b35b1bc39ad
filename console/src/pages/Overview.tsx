import { Anchor, Button } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconSchool } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { useMemo, useState } from "react";
import { Link } from "react-router";

import { useBooks, useOverview } from "../api/queries";
import type { AlertHour, EventHour, Overview } from "../api/types";
import { EVENT_TYPES } from "../api/types";
import { useTexts } from "../i18n";
import { absolute, bytes, compact, count, duration } from "../lib/format";
import { fleetTotal } from "../lib/ledger";
import { LazyChart } from "../ui/LazyChart";
import { Copy, PageHead, Panel, useTypeName } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";
import { AddHost } from "./AddHost";

export function OverviewPage() {
  const { t } = useTexts();
  const overview = useOverview();
  return (
    <>
      <PageHead title={t("overview.title")} />
      {overview.isPending && <Loading />}
      {overview.isError && !overview.data && (
        <Failure error={overview.error} retry={overview.refetch} />
      )}
      {overview.data && <Content data={overview.data} />}
    </>
  );
}

function Content({ data }: { data: Overview }) {
  const { t, lang } = useTexts();
  const [adding, setAdding] = useState(false);
  const chartTitle = t(data.learn ? "overview.learnedPerHour" : "overview.alertsPerHour");
  const uptime = (Date.now() - Date.parse(data.server.started_at)) / 1000;
  return (
    <>
      {data.learn && <LearnBanner />}
      {data.hosts.total === 0 && (
        <div className="y-panel">
          <Empty title={t("overview.noHosts")} hint={t("overview.noHostsHint")}>
            <Button size="xs" onClick={() => setAdding(true)}>
              {t("hosts.add")}
            </Button>
          </Empty>
          {adding && <AddHost onClose={() => setAdding(false)} />}
        </div>
      )}
      <div className="y-tiles">
        {data.learn ? <LearnedTile alerts={data.alerts} /> : <OpenTile alerts={data.alerts} />}
        <Tile title={t("overview.hosts")} to="/hosts" value={data.hosts.total}>
          <Part
            to="/hosts?health=0"
            label={t("overview.healthy")}
            value={data.hosts.healthy}
            tone="good"
          />
          <Part
            to="/hosts?health=1"
            label={t("overview.offline")}
            value={data.hosts.offline}
            tone="danger"
          />
          <Part
            to="/hosts?health=2"
            label={t("overview.blocked")}
            value={data.hosts.blocked}
            tone="warn"
          />
        </Tile>
        <Tile title={t("overview.events")} to="/search?q=&range=all" value={data.events.stored}>
          <span className="y-dim">
            {t("overview.eventsSize", { size: bytes(data.events.bytes) })}
          </span>
        </Tile>
        <LedgerTile data={data} />
      </div>
      <div className="y-charts">
        <Panel title={chartTitle}>
          <AlertChart hours={data.alerts_per_hour} title={chartTitle} />
        </Panel>
        <Panel title={t("overview.eventsPerHour")}>
          <EventChart hours={data.events_per_hour} />
        </Panel>
      </div>
      <p className="y-dim y-foot">
        {t("overview.server", {
          version: data.server.version,
          uptime: duration(uptime, lang),
          memory: bytes(data.server.rss_bytes),
        })}
      </p>
    </>
  );
}

const todayUtc = () => `${new Date().toISOString().slice(0, 10)}T00:00:00Z`;

const END_LEARNING = "yinglong config set server.learn=false";

function LearnBanner() {
  const { t } = useTexts();
  return (
    <div className="y-banner" role="note">
      <IconSchool size={20} stroke={1.6} aria-hidden />
      <div>
        <strong>{t("learn.title")}</strong>
        <p>{t("learn.body")}</p>
        <p className="y-end-learning">
          {t("learn.end")} <code>{END_LEARNING}</code> <Copy value={END_LEARNING} />
        </p>
      </div>
      <Anchor component={Link} to="/alerts?status=4" className="y-nowrap">
        {t("learn.show")}
      </Anchor>
    </div>
  );
}

interface TileProps {
  title: string;
  to: string;
  value: number;
  children: ReactNode;
}

function Tile({ title, to, value, children }: TileProps) {
  const { lang } = useTexts();
  return (
    <section className="y-tile" aria-label={title}>
      <h2>{title}</h2>
      <Link to={to} className="y-tile-value" title={count(value, lang)}>
        {compact(value, lang)}
      </Link>
      <div className="y-tile-parts">{children}</div>
    </section>
  );
}

function OpenTile({ alerts }: { alerts: Overview["alerts"] }) {
  const { t } = useTexts();
  const { danger, suspicious, hint } = alerts.open;
  return (
    <Tile title={t("overview.openAlerts")} to="/alerts?status=0" value={danger + suspicious + hint}>
      <Part to="/alerts?status=0&level=0" label={t("level.0")} value={danger} tone="danger" />
      <Part to="/alerts?status=0&level=1" label={t("level.1")} value={suspicious} tone="warn" />
      <Part to="/alerts?status=0&level=2" label={t("level.2")} value={hint} tone="hint" />
      <TodayPart today={alerts.today} />
      <Part to="/alerts?status=4" label={t("overview.learned")} value={alerts.learned} />
    </Tile>
  );
}

/** While learning nothing opens: what was learned is what there is to see. */
function LearnedTile({ alerts }: { alerts: Overview["alerts"] }) {
  const { t } = useTexts();
  const { danger, suspicious, hint } = alerts.open;
  return (
    <Tile title={t("overview.learnedAlerts")} to="/alerts?status=4" value={alerts.learned}>
      <TodayPart today={alerts.today} />
      <Part
        to="/alerts?status=0"
        label={t("status.0")}
        value={danger + suspicious + hint}
        tone="warn"
      />
    </Tile>
  );
}

function TodayPart({ today }: { today: number }) {
  const { t } = useTexts();
  const since = encodeURIComponent(todayUtc());
  return (
    <Part to={`/alerts?status=all&since=${since}`} label={t("overview.today")} value={today} />
  );
}

interface PartProps {
  to: string;
  label: string;
  value: number;
  tone?: "danger" | "warn" | "hint" | "good";
}

function Part({ to, label, value, tone }: PartProps) {
  const { lang } = useTexts();
  return (
    <Link
      to={to}
      className="y-part"
      data-tone={tone}
      data-zero={value === 0 || undefined}
      title={count(value, lang)}
    >
      <b>{compact(value, lang)}</b> {label}
    </Link>
  );
}

function LedgerTile({ data }: { data: Overview }) {
  const { t, lang } = useTexts();
  const books = useBooks();
  const total = books.data && books.data.length > 0 ? fleetTotal(books.data) : undefined;
  const verdict = !total ? "unknown" : total.balanced ? "good" : "bad";
  const text = {
    unknown: t("overview.unknownBalance"),
    good: t("overview.balanced"),
    bad: t("overview.unbalanced"),
  }[verdict];
  const hint = { unknown: "", good: t("overview.balancedHint"), bad: t("overview.unbalancedHint") };
  return (
    <section className="y-tile" aria-label={t("overview.ledger")}>
      <h2>{t("overview.ledger")}</h2>
      <Link to="/ledger" className="y-balance" data-verdict={verdict} title={hint[verdict]}>
        {verdict === "good" && <IconCheck size={18} aria-hidden />}
        {verdict === "bad" && <IconAlertTriangle size={18} aria-hidden />}
        {text}
      </Link>
      <div className="y-tile-parts">
        <Part to="/ledger" label={t("overview.emitted")} value={data.ledger.emitted} />
        <Part to="/ledger" label={t("overview.stored")} value={data.ledger.stored} />
        <Part to="/ledger" label={t("overview.filtered")} value={data.ledger.filtered} />
        <Part
          to="/ledger"
          label={t("overview.dropped")}
          value={data.ledger.dropped}
          tone={data.ledger.dropped > 0 ? "warn" : undefined}
        />
        {total && total.inFlight > 0 && (
          <span className="y-part" title={count(total.inFlight, lang)}>
            <b>{compact(total.inFlight, lang)}</b> {t("overview.inFlight")}
          </span>
        )}
      </div>
    </section>
  );
}

function AlertChart({ hours, title }: { hours: AlertHour[]; title: string }) {
  const { t } = useTexts();
  const starts = useMemo(() => hours.map(({ start }) => start), [hours]);
  const series = useMemo(
    () => [
      { name: t("level.0"), color: "--y-danger", values: hours.map((hour) => hour.danger) },
      { name: t("level.1"), color: "--y-warn", values: hours.map((hour) => hour.suspicious) },
      { name: t("level.2"), color: "--y-hint", values: hours.map((hour) => hour.hint) },
    ],
    [hours, t],
  );
  if (series.every(({ values }) => values.every((value) => value === 0))) {
    return <Empty title={t("overview.noAlertsInChart")} />;
  }
  return (
    <>
      <LazyChart label={title} starts={starts} series={series} />
      <Figures starts={starts} series={series} />
    </>
  );
}

function EventChart({ hours }: { hours: EventHour[] }) {
  const { t } = useTexts();
  const typeName = useTypeName();
  const starts = useMemo(() => hours.map(({ start }) => start), [hours]);
  const series = EVENT_TYPES.map((type) => ({
    name: typeName(type),
    color: `--y-type-${type}`,
    values: hours.map((hour) => hour[type]),
  }));
  const key = JSON.stringify(series);
  // The names and numbers decide, not the identity of the array.
  const stable = useMemo(() => series, [key]);
  if (series.every(({ values }) => values.every((value) => value === 0))) {
    return <Empty title={t("overview.noEventsInChart")} />;
  }
  return (
    <>
      <LazyChart label={t("overview.eventsPerHour")} starts={starts} series={stable} />
      <Figures starts={starts} series={stable} />
    </>
  );
}

interface FiguresProps {
  starts: string[];
  series: { name: string; values: number[] }[];
}

/** The same numbers for people who cannot see the picture. */
function Figures({ starts, series }: FiguresProps) {
  const { t, lang } = useTexts();
  return (
    <details className="y-figures">
      <summary>{t("overview.table")}</summary>
      <table className="y-table">
        <thead>
          <tr>
            <th scope="col">{t("overview.hour")}</th>
            {series.map(({ name }) => (
              <th key={name} scope="col" className="y-right">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {starts.map((start, index) => (
            <tr key={start}>
              <td className="y-num">{absolute(start).slice(0, 16)}</td>
              {series.map(({ name, values }) => (
                <td key={name} className="y-right y-num">
                  {count(values[index] ?? 0, lang)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
