import { Button, NativeSelect, Popover, TextInput } from "@mantine/core";
import { IconHelp } from "@tabler/icons-react";
import { useMemo, useState } from "react";
import { Link, useSearchParams } from "react-router";

import { useTexts } from "../i18n";
import { hasType } from "../lib/query";
import { DEFAULT_RANGE, fromField, fromSearch, RANGES, toField } from "../lib/range";
import { PageHead, Panel } from "../ui/parts";
import { Problem } from "../ui/State";
import { QueryInput } from "./QueryInput";
import { Results } from "./Results";

export function SearchPage() {
  const { t } = useTexts();
  const [search, setSearch] = useSearchParams();
  // An empty query asks for everything; none at all asks for help.
  const asked = search.get("q");
  const q = asked ?? "";
  // Every run has its own "now": asking the same again looks at the newest events, while paging
  // and redrawing stay with the range of the run.
  const [run, setRun] = useState(0);
  const { now, range } = useMemo(() => {
    const time = Date.now();
    return { now: time, range: fromSearch(search, time) };
  }, [search, run]);

  const ask = (query: string) => {
    const next = new URLSearchParams(search);
    next.set("q", query.trim());
    setRun((value) => value + 1);
    setSearch(next);
  };
  const setTimes = (times: Record<string, string>) => {
    const next = new URLSearchParams();
    if (asked !== null) next.set("q", q);
    for (const [key, value] of Object.entries(times)) if (value) next.set(key, value);
    setSearch(next);
  };

  return (
    <>
      <PageHead title={t("search.title")}>
        <Help />
      </PageHead>
      <form
        className="y-query"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          const field = new FormData(event.currentTarget).get("q");
          if (typeof field === "string") ask(field);
        }}
      >
        <QueryInput asked={q} onRun={ask} />
        <NativeSelect
          size="sm"
          aria-label={t("search.range")}
          value={range.name}
          onChange={(event) => {
            const name = event.currentTarget.value;
            if (name === "custom") {
              setTimes({
                since: range.since || new Date(now - 3_600_000).toISOString(),
                until: new Date(now).toISOString(),
              });
            } else setTimes({ range: name === DEFAULT_RANGE ? "" : name });
          }}
          data={[...RANGES, "custom"].map((name) => ({
            value: name,
            label: t(`search.ranges.${name}`),
          }))}
        />
        {range.name === "custom" && (
          <>
            <TextInput
              type="datetime-local"
              step={1}
              aria-label={t("search.from")}
              value={toField(range.since)}
              onChange={(event) =>
                setTimes({ since: fromField(event.currentTarget.value), until: range.until })
              }
            />
            <TextInput
              type="datetime-local"
              step={1}
              aria-label={t("search.to")}
              value={toField(range.until)}
              onChange={(event) =>
                setTimes({ since: range.since, until: fromField(event.currentTarget.value) })
              }
            />
          </>
        )}
        <Button type="submit">{t("search.run")}</Button>
      </form>
      {asked === null && <Start />}
      {q !== "" && !hasType(q) && <Problem message={t("search.needType")} />}
      {asked !== null && (q === "" || hasType(q)) && (
        <Results
          q={q}
          range={range}
          now={now}
          zoom={(since, until) => setTimes({ since, until })}
        />
      )}
    </>
  );
}

const EXAMPLES = {
  process: "type:process | name:curl",
  connection: "type:connection | remote_ip:203.0.113.201",
  file: "type:file | path:php",
  loginlog: "type:loginlog | status:false",
  dns: "type:dns | qtype.keyword:TXT",
  syscall: "type:syscall | call.keyword:ptrace",
  exit: "type:exit | signal.keyword:SIGSEGV",
  loss: "type:loss | stream.keyword:process",
  all: "type:process | all:/dev/tcp",
} as const;

function Start() {
  const { t } = useTexts();
  return (
    <div className="y-start">
      <Panel title={t("search.examples")}>
        <ul className="y-examples">
          {(Object.entries(EXAMPLES) as [keyof typeof EXAMPLES, string][]).map(([key, query]) => (
            <li key={key}>
              <Link className="y-mono" to={`/search?q=${encodeURIComponent(query)}`}>
                {query}
              </Link>
              <span className="y-dim">{t(`search.example.${key}`)}</span>
            </li>
          ))}
        </ul>
      </Panel>
      <Panel title={t("search.helpTitle")}>
        <Syntax />
      </Panel>
    </div>
  );
}

function Syntax() {
  const { t } = useTexts();
  return (
    <>
      <p>{t("search.helpIntro")}</p>
      <dl className="y-facts y-syntax">
        <div>
          <dt>name:curl</dt>
          <dd>{t("search.help1")}</dd>
        </div>
        <div>
          <dt>name.keyword:/usr/bin/curl</dt>
          <dd>{t("search.help2")}</dd>
        </div>
        <div>
          <dt>all:tmp</dt>
          <dd>{t("search.help3")}</dd>
        </div>
        <div>
          <dt>{"command:/curl.+\\| *sh/"}</dt>
          <dd>{t("search.help4")}</dd>
        </div>
        <div>
          <dt>{"pid:>=1000"}</dt>
          <dd>{t("search.help5")}</dd>
        </div>
      </dl>
    </>
  );
}

function Help() {
  const { t } = useTexts();
  return (
    <Popover width={460} position="bottom-end" shadow="md" withArrow>
      <Popover.Target>
        <Button
          size="compact-sm"
          variant="subtle"
          color="gray"
          leftSection={<IconHelp size={16} aria-hidden />}
        >
          {t("search.help")}
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <Syntax />
      </Popover.Dropdown>
    </Popover>
  );
}
