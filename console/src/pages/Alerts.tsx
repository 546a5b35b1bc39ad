import { Anchor, Button, Kbd, NativeSelect, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { Link, useSearchParams } from "react-router";

import { ALERT_PAGE, useAlerts, useAlertTotal, useHosts, useLearn, useOverview } from "../api/queries";
import { useLiveAlerts } from "../api/stream";
import type { AlertPage } from "../api/types";
import { ALERT_STATUSES, EVENT_TYPES, INVENTORY_TYPES, LEVELS } from "../api/types";
import { useTexts } from "../i18n";
import type { AlertFilter } from "../lib/filters";
import {
  accepts,
  fromSearch,
  isFirst,
  isNarrowed,
  toParams,
  toSearch,
  usualStatus,
  withRepeated,
} from "../lib/filters";
import { absolute, count } from "../lib/format";
import { PageHead, useTypeName } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";
import { AlertTable } from "./AlertTable";

export function AlertsPage() {
  const { t, lang } = useTexts();
  const [search, setSearch] = useSearchParams();
  const learn = useLearn();
  const usual = usualStatus(learn);
  const filter = fromSearch(search, usual);
  const offset = Math.max(0, Number(search.get("offset")) || 0);
  const alerts = useAlerts({ ...toParams(filter), offset, limit: ALERT_PAGE });
  const fresh = useFresh(filter, alerts.data);
  const shown = alerts.data?.alerts ?? [];
  const total = alerts.data?.total ?? 0;

  const change = (next: Partial<AlertFilter>) => {
    fresh.clear();
    setSearch(toSearch({ ...filter, ...next }, usual), { replace: true });
  };
  const page = (to: number) => {
    const next = toSearch(filter, usual);
    if (to > 0) next.set("offset", String(to));
    setSearch(next);
  };

  return (
    <>
      <PageHead title={t("alerts.title")}>
        <KeyHelp />
      </PageHead>
      {filter.status === "4" && <p className="y-note">{t("learn.these")}</p>}
      {learn && filter.status !== "4" && (
        <p className="y-note">
          {t("learn.alerts")}{" "}
          <Anchor component={Link} to="/alerts?status=4">
            {t("learn.show")}
          </Anchor>
        </p>
      )}
      <Filters filter={filter} change={change} />
      {fresh.count > 0 && (
        <button type="button" className="y-fresh" onClick={fresh.show} aria-live="polite">
          {t("alerts.fresh", { count: fresh.count })}
        </button>
      )}
      {alerts.isPending && <Loading />}
      {alerts.isError && <Failure error={alerts.error} retry={alerts.refetch} />}
      {alerts.data && !alerts.isError && shown.length === 0 && (
        <div className="y-panel">
          <Nothing filter={filter} clear={() => setSearch(new URLSearchParams())} />
        </div>
      )}
      {shown.length > 0 && !alerts.isError && (
        <>
          <AlertTable
            key={`${toSearch(filter, usual).toString()}#${offset}`}
            alerts={shown}
            withStatus={filter.status === "all" || filter.status === "4"}
          />
          <div className="y-pager">
            <span className="y-dim y-num">
              {t("state.showing", {
                from: count(offset + 1, lang),
                to: count(offset + shown.length, lang),
                total: count(total, lang),
              })}
            </span>
            <Button
              size="compact-sm"
              variant="default"
              disabled={offset === 0}
              onClick={() => page(offset - ALERT_PAGE)}
            >
              {t("state.previous")}
            </Button>
            <Button
              size="compact-sm"
              variant="default"
              disabled={offset + shown.length >= total}
              onClick={() => page(offset + ALERT_PAGE)}
            >
              {t("state.next")}
            </Button>
          </div>
        </>
      )}
    </>
  );
}

/**
 * Counts alerts that came since the list was read, so that rows never move under the mouse. The
 * live stream says so at once; the total, asked now and then, finds what an interruption hid.
 */
function useFresh(filter: AlertFilter, list: AlertPage | undefined) {
  const client = useQueryClient();
  const total = useAlertTotal(toParams(filter)).data;
  const [ids, setIds] = useState<ReadonlySet<string>>(new Set());
  const empty = () => setIds(new Set());
  useLiveAlerts((alert) => {
    if (list?.alerts.some((row) => row.id === alert.id)) {
      client.setQueriesData<AlertPage>(
        { queryKey: ["alerts"] },
        (page) => page && { ...page, alerts: withRepeated(page.alerts, alert) },
      );
    } else if (isFirst(alert) && accepts(filter, alert)) {
      setIds((before) => new Set(before).add(alert.id));
    }
  });
  return {
    count: Math.max(ids.size, total === undefined || !list ? 0 : total - list.total),
    clear: empty,
    show: () => {
      empty();
      for (const key of ["alerts", "alert-total"]) {
        void client.invalidateQueries({ queryKey: [key] });
      }
    },
  };
}

interface FiltersProps {
  filter: AlertFilter;
  change: (next: Partial<AlertFilter>) => void;
}

function Filters({ filter, change }: FiltersProps) {
  const { t } = useTexts();
  const typeName = useTypeName();
  const hosts = useHosts();
  const [text, setText] = useState(filter.text);
  const [settled] = useDebouncedValue(text, 300);
  const sent = useRef(filter.text);

  useEffect(() => {
    if (settled !== sent.current) {
      sent.current = settled;
      change({ text: settled });
    }
  });
  // The address can also change by a link or the back button.
  useEffect(() => {
    if (filter.text !== sent.current) {
      sent.current = filter.text;
      setText(filter.text);
    }
  }, [filter.text]);

  return (
    <div className="y-filters" role="search">
      <div className="y-segments" role="group" aria-label={t("status.label")}>
        {[...ALERT_STATUSES.map(String), "all"].map((status) => (
          <button
            key={status}
            type="button"
            aria-pressed={filter.status === status}
            onClick={() => change({ status })}
          >
            {t(`status.${status}`)}
          </button>
        ))}
      </div>
      <NativeSelect
        size="xs"
        aria-label={t("level.label")}
        value={filter.level}
        onChange={(event) => change({ level: event.currentTarget.value })}
        data={[
          { value: "", label: t("alerts.anyLevel") },
          ...LEVELS.map((level) => ({ value: String(level), label: t(`level.${level}`) })),
        ]}
      />
      <NativeSelect
        size="xs"
        aria-label={t("type.label")}
        value={filter.type}
        onChange={(event) => change({ type: event.currentTarget.value })}
        data={[
          { value: "", label: t("alerts.anyType") },
          ...[...EVENT_TYPES, ...INVENTORY_TYPES, "abnormal"].map((type) => ({
            value: type,
            label: typeName(type),
          })),
        ]}
      />
      <NativeSelect
        size="xs"
        aria-label={t("alerts.host")}
        value={filter.agent_id}
        onChange={(event) => change({ agent_id: event.currentTarget.value })}
        data={[
          { value: "", label: t("alerts.anyHost") },
          ...(hosts.data ?? []).map((host) => ({ value: host.agent_id, label: host.hostname })),
        ]}
      />
      <TextInput
        size="xs"
        className="y-grow"
        type="search"
        aria-label={t("alerts.search")}
        placeholder={t("alerts.search")}
        leftSection={<IconSearch size={14} aria-hidden />}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
      />
      {filter.since && (
        <Button size="compact-xs" variant="light" onClick={() => change({ since: "" })}>
          {t("alerts.since", { time: absolute(filter.since) })} ✕
        </Button>
      )}
    </div>
  );
}

function Nothing({ filter, clear }: { filter: AlertFilter; clear: () => void }) {
  const { t } = useTexts();
  const overview = useOverview();
  if (isNarrowed(filter)) {
    return (
      <Empty title={t("alerts.noMatch")} hint={t("alerts.noMatchHint")}>
        <Button size="xs" variant="default" onClick={clear}>
          {t("state.clear")}
        </Button>
      </Empty>
    );
  }
  if (overview.data?.hosts.total === 0) {
    return (
      <Empty title={t("alerts.empty")} hint={t("alerts.emptyNoHosts")}>
        <Button size="xs" component={Link} to="/hosts?add=1">
          {t("hosts.add")}
        </Button>
      </Empty>
    );
  }
  switch (filter.status) {
    case "0":
      return <Empty title={t("alerts.empty")} hint={t("alerts.emptyHint")} />;
    case "4":
      return <Empty title={t("alerts.emptyLearned")} hint={t("alerts.emptyLearnedHint")} />;
    default:
      return <Empty title={t("alerts.emptyStatus")} hint={t("alerts.emptyStatusHint")} />;
  }
}

function KeyHelp() {
  const { t } = useTexts();
  const keys: [string, string][] = [
    ["j k", "keyMove"],
    ["↵", "keyOpen"],
    ["x", "keySelect"],
    ["h", "keyHandle"],
    ["i", "keyIgnore"],
  ];
  return (
    <div className="y-keys" aria-label={t("alerts.keys")} role="note">
      {keys.map(([key, text]) => (
        <span key={key}>
          <Kbd size="xs">{key}</Kbd> {t(`alerts.${text}`)}
        </span>
      ))}
    </div>
  );
}
