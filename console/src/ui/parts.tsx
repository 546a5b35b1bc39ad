/** Small pieces that several pages show: time, level, health, type, copy, JSON. */

import { ActionIcon, CopyButton, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { createContext, useContext, useEffect, useId, useState } from "react";
import type { ReactNode } from "react";

import type { AlertStatus, Health, Level } from "../api/types";
import { useTexts } from "../i18n";
import { absolute, count, relative } from "../lib/format";
import { summary } from "../lib/query";

const Now = createContext(Date.now());

/** One clock for all relative times of the page. */
export function Clock({ children }: { children: ReactNode }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 5_000);
    return () => clearInterval(timer);
  }, []);
  return <Now.Provider value={now}>{children}</Now.Provider>;
}

/** "5 min. ago"; the exact time on hover and for screen readers. */
export function Ago({ time }: { time: string }) {
  const { lang } = useTexts();
  const now = useContext(Now);
  // The stored time may be a little ahead of this clock.
  const shown = relative(time, Math.max(now, Date.parse(time) || 0), lang);
  return (
    <time dateTime={time} title={`${absolute(time)}\n${time}`} className="y-nowrap">
      {shown}
    </time>
  );
}

/** Exact time; UTC on hover. */
export function At({ time }: { time: string }) {
  return (
    <time dateTime={time} title={time} className="y-nowrap y-num">
      {absolute(time)}
    </time>
  );
}

export function LevelMark({ level }: { level: Level }) {
  const { t } = useTexts();
  return (
    <span className="y-level" data-level={level}>
      {t(`level.${level}`)}
    </span>
  );
}

export function StatusMark({ status }: { status: AlertStatus }) {
  const { t } = useTexts();
  return (
    <span className="y-status" data-status={status}>
      {t(`status.${status}`)}
    </span>
  );
}

export function HealthMark({ health }: { health: Health }) {
  const { t } = useTexts();
  return (
    <Tooltip label={t(`healthHint.${health}`)}>
      <span className="y-health" data-health={health}>
        {t(`health.${health}`)}
      </span>
    </Tooltip>
  );
}

/** Name of an event or inventory type; an unknown one stands as it is. */
export function useTypeName() {
  const { t } = useTexts();
  return (type: string) => t(`type.${type}`, { defaultValue: type });
}

/** One line that says what an event is about; what was lost is said in the reader's language. */
export function useSummary() {
  const { t, lang } = useTexts();
  const typeName = useTypeName();
  return (type: string, data: Record<string, unknown>) => {
    if (type !== "loss") return summary(type, data);
    const of = (key: string) => (typeof data[key] === "string" ? data[key] : "");
    const sentence = t("loss.sentence", {
      number: count(Number(data.count) || 0, lang),
      type: typeName(of("stream")),
      reason: t(`reason.${of("reason")}`, { defaultValue: of("reason") }),
    });
    const whose = of("container_id")
      ? t("loss.container", { id: of("container_id").slice(0, 12) })
      : of("cgroup")
        ? t("loss.group", { path: of("cgroup") })
        : of("user")
          ? t("loss.user", { name: of("user") })
          : "";
    return whose === "" ? sentence : t("loss.whose", { sentence, whose });
  };
}

/** Name of what raised an alert: a rule's own name, or a list in the reader's language. */
export function useSourceName() {
  const { t } = useTexts();
  return (source: string) =>
    source === "blacklist" || source === "intelligence" ? t(`source.${source}`) : source;
}

export function Copy({ value, label }: { value: string; label?: string }) {
  const { t } = useTexts();
  return (
    <CopyButton value={value} timeout={1500}>
      {({ copied, copy }) => (
        <ActionIcon
          variant="subtle"
          color="gray"
          size="sm"
          onClick={copy}
          aria-label={copied ? t("state.copied") : (label ?? t("state.copy"))}
          title={copied ? t("state.copied") : (label ?? t("state.copy"))}
        >
          {copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
        </ActionIcon>
      )}
    </CopyButton>
  );
}

/** Texts up to this many characters, about three lines, are always shown whole. */
const SHORT_CHARS = 280;

interface LongProps {
  text: string;
  /** The same text with marks in it. */
  children?: ReactNode;
  /** What stands there while folded, when the beginning is not what matters. */
  gist?: ReactNode;
}

/**
 * A text that may be very long, such as a compiler's command line. What is folded away stays in the
 * page, so that selecting, finding and reading aloud work on all of it.
 */
export function Long({ text, children = text, gist }: LongProps) {
  const { t, lang } = useTexts();
  const [whole, setWhole] = useState(false);
  const id = useId();
  if (text.length <= SHORT_CHARS) return children;
  return (
    <span className="y-long">
      <span id={id} className={whole ? undefined : gist ? "y-folded y-gist" : "y-folded"}>
        {whole ? children : (gist ?? children)}
      </span>
      <span className="y-long-tools">
        <button
          type="button"
          className="y-more"
          aria-expanded={whole}
          aria-controls={id}
          onClick={() => setWhole(!whole)}
        >
          {whole ? t("state.less") : t("state.whole", { count: count(text.length, lang) })}
        </button>
        <Copy value={text} />
      </span>
    </span>
  );
}

/** A JSON document as text, with a button that copies it. */
export function Json({ value, label }: { value: unknown; label: string }) {
  const body = JSON.stringify(value, null, 2);
  return (
    <div className="y-json">
      <Copy value={body} />
      <pre tabIndex={0} role="region" aria-label={label}>
        {body}
      </pre>
    </div>
  );
}

interface PanelProps {
  title: ReactNode;
  aside?: ReactNode;
  children: ReactNode;
  flush?: boolean;
}

/** A titled box. */
export function Panel({ title, aside, children, flush = false }: PanelProps) {
  return (
    <section className="y-panel">
      <header className="y-panel-head">
        <h2>{title}</h2>
        {aside}
      </header>
      <div className={flush ? "y-panel-flush" : "y-panel-body"}>{children}</div>
    </section>
  );
}

/** Title of the page, also of the window. */
export function PageHead({ title, children }: { title: string; children?: ReactNode }) {
  const { t } = useTexts();
  const app = t("app.name");
  useEffect(() => {
    document.title = `${title} · ${app}`;
  }, [title, app]);
  return (
    <div className="y-page-head">
      <h1>{title}</h1>
      <div className="y-page-actions">{children}</div>
    </div>
  );
}
