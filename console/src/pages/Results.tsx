import { Button } from "@mantine/core";
import { IconChevronDown, IconChevronRight } from "@tabler/icons-react";
import { Fragment, useMemo, useState } from "react";
import { Link } from "react-router";

import type { Params } from "../api/client";
import { useEvents, useHistogram } from "../api/queries";
import type { Bucket, Event } from "../api/types";
import { EVENT_TYPES } from "../api/types";
import { useTexts } from "../i18n";
import { bucketize } from "../lib/histogram";
import { interval } from "../lib/query";
import type { Range } from "../lib/range";
import { spanOf } from "../lib/range";
import { LazyChart } from "../ui/LazyChart";
import { At, Json, Long, Panel, useSummary, useTypeName } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";

const DAY_SECS = 86_400;

interface ResultsProps {
  q: string;
  range: Range;
  now: number;
  zoom: (since: string, until: string) => void;
}

export function Results({ q, range, now, zoom }: ResultsProps) {
  const { t } = useTexts();
  const params: Params = { q, since: range.since, until: range.until };
  const span = spanOf(range, now);
  const secs = span.chosen ? interval(span.to - span.from) : DAY_SECS;
  const events = useEvents(params, true);
  const histogram = useHistogram(
    {
      q,
      since: new Date(span.from).toISOString(),
      until: range.until,
      interval_secs: secs,
    },
    !events.isError,
  );

  if (events.isPending) return <Loading />;
  if (events.isError && !events.data) {
    return (
      <div className="y-panel">
        <Failure error={events.error} retry={events.refetch} />
      </div>
    );
  }
  const rows = events.data.pages.flatMap((page) => page.events);
  const partial = events.data.pages.some((page) => page.partial);
  return (
    <>
      {partial && (
        <p className="y-note y-note-warn" role="status">
          {t("search.partial")}
        </p>
      )}
      {histogram.data && histogram.data.length > 0 && (
        <Panel
          title={t("search.histogram")}
          aside={<span className="y-dim">{t("search.histogramHint")}</span>}
        >
          <Histogram
            buckets={histogram.data}
            secs={secs}
            from={span.chosen ? span.from : Infinity}
            to={span.chosen ? span.to : 0}
            zoom={zoom}
          />
        </Panel>
      )}
      <Panel
        title={t("search.results")}
        aside={
          <span className="y-dim y-num" role="status">
            {t("search.loaded", { count: rows.length })}
          </span>
        }
        flush
      >
        {rows.length === 0 ? (
          <Empty title={t("search.empty")} hint={t("search.emptyHint")} />
        ) : (
          <EventTable events={rows} />
        )}
      </Panel>
      {events.isFetchNextPageError && (
        <Failure error={events.error} retry={() => events.fetchNextPage()} />
      )}
      <div className="y-pager">
        {events.hasNextPage ? (
          <Button
            variant="default"
            size="xs"
            loading={events.isFetchingNextPage}
            onClick={() => void events.fetchNextPage()}
          >
            {t("state.more")}
          </Button>
        ) : (
          rows.length > 0 && <span className="y-dim">{t("search.end")}</span>
        )}
      </div>
    </>
  );
}

interface HistogramProps {
  buckets: Bucket[];
  secs: number;
  from: number;
  to: number;
  zoom: (since: string, until: string) => void;
}

function Histogram({ buckets, secs, from, to, zoom }: HistogramProps) {
  const { t, lang } = useTexts();
  const typeName = useTypeName();
  const { starts, counts } = useMemo(() => bucketize(buckets, secs, from, to), [buckets, secs, from, to]);
  const series = useMemo(
    () =>
      EVENT_TYPES.filter((type) => counts[type].some((value) => value > 0)).map((type) => ({
        name: typeName(type),
        color: `--y-type-${type}`,
        values: counts[type],
      })),
    // The names depend on the language alone.
    [counts, lang],
  );
  return (
    <LazyChart
      label={t("search.histogram")}
      starts={starts}
      series={series}
      height={130}
      withDate={secs >= 1_800}
      onSelect={(index) => {
        const start = starts[index];
        if (start) zoom(start, new Date(Date.parse(start) + secs * 1000).toISOString());
      }}
    />
  );
}

function EventTable({ events }: { events: Event[] }) {
  const { t } = useTexts();
  const typeName = useTypeName();
  const summary = useSummary();
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (id: string) =>
    setOpen((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  return (
    <table className="y-table y-results y-stack" aria-label={t("search.results")}>
      <thead>
        <tr>
          <th aria-hidden />
          <th scope="col">{t("search.time")}</th>
          <th scope="col">{t("search.type")}</th>
          <th scope="col">{t("search.host")}</th>
          <th scope="col">{t("search.event")}</th>
        </tr>
      </thead>
      <tbody>
        {events.map((event) => {
          const expanded = open.has(event.id);
          const Icon = expanded ? IconChevronDown : IconChevronRight;
          return (
            <Fragment key={event.id}>
              <tr>
                <td>
                  <button
                    type="button"
                    className="y-expander"
                    aria-expanded={expanded}
                    aria-label={expanded ? t("search.collapse") : t("search.expand")}
                    onClick={() => toggle(event.id)}
                  >
                    <Icon size={15} aria-hidden />
                  </button>
                </td>
                <td className="y-dim">
                  <At time={event.time} />
                </td>
                <td className="y-nowrap">{typeName(event.type)}</td>
                <td className="y-nowrap">
                  <Link to={`/hosts/${event.agent_id}`} title={event.ip}>
                    {event.hostname}
                  </Link>
                </td>
                <td className="y-mono y-cell-event">
                  <Long text={summary(event.type, event.data)} />
                </td>
              </tr>
              {expanded && (
                <tr className="y-expanded">
                  <td colSpan={5}>
                    <Json value={event} label={t("alert.raw")} />
                  </td>
                </tr>
              )}
            </Fragment>
          );
        })}
      </tbody>
    </table>
  );
}
