import { Button, Checkbox } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import { Link, useLocation, useNavigate } from "react-router";

import type { Alert, AlertStatus } from "../api/types";
import { useTexts } from "../i18n";
import { count, excerpt } from "../lib/format";
import { Ago, LevelMark, StatusMark, useSourceName, useTypeName } from "../ui/parts";
import { useAlertActions } from "../ui/useAlertActions";

interface AlertTableProps {
  alerts: Alert[];
  withStatus: boolean;
}

/** Alerts with selection, bulk change and keys: j k move, enter opens, x selects, h i change. */
export function AlertTable({ alerts, withStatus }: AlertTableProps) {
  const { t } = useTexts();
  const actions = useAlertActions();
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const chosen = alerts.filter((alert) => selected.has(alert.id));

  const toggle = (id: string) =>
    setSelected((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  const change = (targets: Alert[], status: AlertStatus) => {
    setSelected(new Set());
    void actions.set(targets, status);
  };
  const { cursor, setCursor, rows } = useKeys(alerts, toggle, (alert, status) =>
    change(chosen.length > 0 ? chosen : [alert], status),
  );

  return (
    <div className="y-panel y-alerts">
      <div className="y-bulk" data-active={chosen.length > 0 || undefined}>
        <Checkbox
          size="xs"
          aria-label={t("alerts.selectAll")}
          checked={chosen.length === alerts.length}
          indeterminate={chosen.length > 0 && chosen.length < alerts.length}
          onChange={(event) =>
            setSelected(new Set(event.currentTarget.checked ? alerts.map(({ id }) => id) : []))
          }
        />
        <span className="y-dim" role="status">
          {t("alerts.selected", { count: chosen.length })}
        </span>
        <Bulk chosen={chosen} change={change} />
      </div>
      <table className="y-table" aria-label={t("alerts.list")}>
        <thead>
          <tr>
            <th className="y-cell-check" aria-hidden />
            <th scope="col">{t("level.label")}</th>
            <th scope="col">{t("alerts.time")}</th>
            <th scope="col">{t("alerts.source")}</th>
            <th scope="col">{t("type.label")}</th>
            <th scope="col">{t("alerts.host")}</th>
            <th scope="col">{t("alerts.info")}</th>
            <th scope="col" className="y-right">
              {t("alerts.count")}
            </th>
            {withStatus && <th scope="col">{t("status.label")}</th>}
          </tr>
        </thead>
        <tbody ref={rows}>
          {alerts.map((alert, index) => (
            <Row
              key={alert.id}
              alert={alert}
              withStatus={withStatus}
              current={index === cursor}
              selected={selected.has(alert.id)}
              onFocus={() => setCursor(index)}
              onToggle={() => toggle(alert.id)}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface BulkProps {
  chosen: Alert[];
  change: (targets: Alert[], status: AlertStatus) => void;
}

function Bulk({ chosen, change }: BulkProps) {
  const { t } = useTexts();
  const none = chosen.length === 0;
  return (
    <div className="y-bulk-actions">
      <Button size="compact-xs" disabled={none} onClick={() => change(chosen, 1)}>
        {t("alerts.handle")}
      </Button>
      <Button
        size="compact-xs"
        variant="default"
        disabled={none}
        title={t("alerts.ignoreHint")}
        onClick={() => change(chosen, 2)}
      >
        {t("alerts.ignore")}
      </Button>
      {chosen.some((alert) => alert.status !== 0) && (
        <Button size="compact-xs" variant="default" onClick={() => change(chosen, 0)}>
          {t("alerts.reopen")}
        </Button>
      )}
    </div>
  );
}

interface RowProps {
  alert: Alert;
  withStatus: boolean;
  current: boolean;
  selected: boolean;
  onFocus: () => void;
  onToggle: () => void;
}

function Row({ alert, withStatus, current, selected, onFocus, onToggle }: RowProps) {
  const { t, lang } = useTexts();
  const sourceName = useSourceName();
  const typeName = useTypeName();
  const location = useLocation();
  const source = sourceName(alert.source);
  return (
    <tr
      tabIndex={current ? 0 : -1}
      onFocus={onFocus}
      data-selected={selected || undefined}
      data-level={alert.level}
    >
      <td className="y-cell-check">
        <Checkbox
          size="xs"
          tabIndex={-1}
          checked={selected}
          onChange={onToggle}
          aria-label={t("alerts.select", { source, host: alert.hostname })}
        />
      </td>
      <td>
        <LevelMark level={alert.level} />
      </td>
      <td className="y-dim">
        <Ago time={alert.time} />
      </td>
      <td className="y-cell-source">
        <Link to={`/alerts/${alert.id}`} state={{ from: location.search }}>
          {source}
        </Link>
      </td>
      <td className="y-cell-type y-dim">{typeName(alert.type)}</td>
      <td className="y-cell-host">
        <Link to={`/hosts/${alert.agent_id}`} title={alert.ip}>
          {alert.hostname}
        </Link>
      </td>
      <td className="y-cell-info y-mono" title={excerpt(alert.info)}>
        <span>{alert.info}</span>
      </td>
      <td className="y-right y-num" title={t("alerts.countHint", { count: alert.count })}>
        {alert.count > 1 ? `×${count(alert.count, lang)}` : ""}
      </td>
      {withStatus && (
        <td>
          <StatusMark status={alert.status} />
        </td>
      )}
    </tr>
  );
}

/** Whether a key belongs to what a person is typing or choosing. */
const typing = (target: EventTarget | null) =>
  target instanceof HTMLElement &&
  target.closest("input:not([type=checkbox]), textarea, select, [role=dialog], [role=menu]") !== null;

function useKeys(
  alerts: Alert[],
  toggle: (id: string) => void,
  change: (alert: Alert, status: AlertStatus) => void,
) {
  const navigate = useNavigate();
  const location = useLocation();
  const rows = useRef<HTMLTableSectionElement>(null);
  const [cursor, setCursor] = useState(0);
  const inRange = Math.min(cursor, alerts.length - 1);

  useEffect(() => {
    const move = (to: number) => {
      const index = Math.max(0, Math.min(alerts.length - 1, to));
      setCursor(index);
      rows.current?.querySelectorAll<HTMLElement>("tr").item(index)?.focus();
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      const alert = alerts[inRange];
      const inRows = rows.current?.contains(document.activeElement) ?? false;
      if (!alert) return;
      if (event.key === "j") move(inRows ? inRange + 1 : inRange);
      else if (event.key === "k") move(inRows ? inRange - 1 : inRange);
      else if (!inRows) return;
      else if (event.key === "Enter" && event.target instanceof HTMLTableRowElement) {
        void navigate(`/alerts/${alert.id}`, { state: { from: location.search } });
      } else if (event.key === "x") toggle(alert.id);
      else if (event.key === "h") change(alert, 1);
      else if (event.key === "i") change(alert, 2);
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  });

  return { cursor: inRange, setCursor, rows };
}
