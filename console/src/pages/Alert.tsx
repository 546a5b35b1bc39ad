import { Anchor, Button } from "@mantine/core";
import { IconArrowLeft, IconSearch } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { Link, useLocation, useParams } from "react-router";

import { ApiError } from "../api/client";
import { useAlert } from "../api/queries";
import type { AlertDetail, Matched } from "../api/types";
import { useTexts } from "../i18n";
import { techniqueUrl } from "../lib/attack";
import { count, excerpt } from "../lib/format";
import type { Piece } from "../lib/highlight";
import { gist, pieces } from "../lib/highlight";
import { eventOf, inOrder, jumpFromAlert } from "../lib/query";
import { fromRoot } from "../lib/tree";
import { Ago, At, Json, LevelMark, Long, PageHead, Panel, StatusMark } from "../ui/parts";
import { useSourceName, useSummary, useTypeName } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";
import { useAlertActions } from "../ui/useAlertActions";

export function AlertPage() {
  const { t } = useTexts();
  const { id = "" } = useParams();
  const alert = useAlert(id);
  const from = (useLocation().state as { from?: string } | null)?.from ?? "";
  const missing = alert.error instanceof ApiError && alert.error.status === 404;
  return (
    <>
      <Anchor component={Link} to={`/alerts${from}`} className="y-back">
        <IconArrowLeft size={14} aria-hidden /> {t("alerts.title")}
      </Anchor>
      {alert.isPending && <Loading />}
      {missing && <Empty title={t("alert.gone")} />}
      {alert.isError && !missing && !alert.data && (
        <Failure error={alert.error} retry={alert.refetch} />
      )}
      {alert.data && <Detail alert={alert.data} />}
    </>
  );
}

function Detail({ alert }: { alert: AlertDetail }) {
  const { t, lang } = useTexts();
  const sourceName = useSourceName();
  const typeName = useTypeName();
  const translated = lang === "zh" ? alert.description_zh || alert.description : alert.description;
  const description = translated || alert.description_zh;
  return (
    <>
      <PageHead title={sourceName(alert.source)}>
        <Actions alert={alert} />
      </PageHead>
      <div className="y-facts-line">
        <LevelMark level={alert.level} />
        <StatusMark status={alert.status} />
        <span>{typeName(alert.type)}</span>
        <Link to={`/hosts/${alert.agent_id}`}>{alert.hostname}</Link>
        <span className="y-num">{alert.ip}</span>
        <Ago time={alert.time} />
        <span>{t("alert.seen", { count: alert.count })}</span>
      </div>
      <div className="y-alert">
        <div className="y-column">
          <Panel title={t("alert.why")} flush={alert.matched.length > 0}>
            <Why alert={alert} />
          </Panel>
          <Panel title={t("alert.tree")}>
            <Tree alert={alert} />
          </Panel>
          <Panel title={t("alert.nearby")} flush>
            <Nearby alert={alert} />
          </Panel>
          <Panel title={t("alert.raw")} flush>
            <Json value={alert.raw} label={t("alert.raw")} />
          </Panel>
        </div>
        <div className="y-column">
          <Panel title={t("alert.description")}>
            <p>{description || <span className="y-dim">{t("alert.noDescription")}</span>}</p>
            {alert.attack.length > 0 && (
              <p className="y-techniques">
                {t("alert.technique")}
                {": "}
                {alert.attack.map((technique) => (
                  <Technique key={technique} technique={technique} />
                ))}
              </p>
            )}
          </Panel>
          <Panel title={t("alert.prevalence")}>
            <Prevalence alert={alert} />
          </Panel>
          <Panel title={t("host.facts")}>
            <dl className="y-facts">
              <Fact name={t("alert.happened")}>
                <At time={alert.time} />
              </Fact>
              <Fact name={t("alert.raised")}>
                <At time={alert.raised_at} />
              </Fact>
              <Fact name={t("alert.last")}>
                <At time={alert.uptime} />
              </Fact>
              <Fact name={t("alert.host")}>
                <Link to={`/hosts/${alert.agent_id}`}>{alert.hostname}</Link>
              </Fact>
              {alert.rule_id && (
                <Fact name={t("alert.rule")}>
                  <span className="y-mono">{alert.rule_id}</span>
                </Fact>
              )}
            </dl>
          </Panel>
        </div>
      </div>
    </>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Actions({ alert }: { alert: AlertDetail }) {
  const { t } = useTexts();
  const actions = useAlertActions();
  const jump = jumpFromAlert(alert);
  const to = jump && `/search?${new URLSearchParams({ ...jump }).toString()}`;
  return (
    <>
      {to && (
        <Button
          size="xs"
          variant="default"
          component={Link}
          to={to}
          leftSection={<IconSearch size={14} aria-hidden />}
        >
          {t("alert.search")}
        </Button>
      )}
      {alert.status !== 0 && (
        <Button
          size="xs"
          variant="default"
          loading={actions.busy}
          onClick={() => void actions.set([alert], 0)}
        >
          {t("alerts.reopen")}
        </Button>
      )}
      {alert.status !== 2 && (
        <Button
          size="xs"
          variant="default"
          title={t("alerts.ignoreHint")}
          loading={actions.busy}
          onClick={() => void actions.set([alert], 2)}
        >
          {t("alerts.ignore")}
        </Button>
      )}
      {alert.status !== 1 && (
        <Button size="xs" loading={actions.busy} onClick={() => void actions.set([alert], 1)}>
          {t("alerts.handle")}
        </Button>
      )}
    </>
  );
}

function Why({ alert }: { alert: AlertDetail }) {
  const { t } = useTexts();
  if (alert.matched.length === 0) return <p>{t("alert.noMatched", { info: excerpt(alert.info) })}</p>;
  return (
    <table className="y-table y-table-wrap y-why">
      <thead>
        <tr>
          <th scope="col">{t("alert.field")}</th>
          <th scope="col">{t("alert.value")}</th>
          <th scope="col">{t("alert.condition")}</th>
        </tr>
      </thead>
      <tbody>
        {alert.matched.map((matched) => (
          <tr key={`${matched.field} ${matched.condition}`}>
            <th scope="row" className="y-mono">
              {matched.field}
            </th>
            <td className="y-mono">
              <Value matched={matched} />
            </td>
            <td className="y-mono y-dim">
              <Long text={matched.condition} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Value({ matched }: { matched: Matched }) {
  const found = pieces(matched.value, matched.condition);
  return (
    <Long text={matched.value} gist={<Marked found={gist(found)} />}>
      <Marked found={found} />
    </Long>
  );
}

function Marked({ found }: { found: Piece[] }) {
  return found.map(({ text, hit }, index) =>
    hit ? <mark key={index}>{text}</mark> : <span key={index}>{text}</span>,
  );
}

function Technique({ technique }: { technique: string }) {
  const url = techniqueUrl(technique);
  if (!url) return <span className="y-mono">{technique}</span>;
  return (
    <a href={url} target="_blank" rel="noreferrer noopener" className="y-mono">
      {technique}
    </a>
  );
}

function Prevalence({ alert }: { alert: AlertDetail }) {
  const { t, lang } = useTexts();
  const statistic = alert.context.statistic;
  if (!statistic) return <p className="y-dim">{t("alert.prevalenceNone")}</p>;
  const info = excerpt(statistic.info);
  return (
    <p>
      {statistic.count <= 1
        ? t("alert.prevalenceFirst", { info })
        : t("alert.prevalenceText", {
            info,
            count: count(statistic.count, lang),
            hosts: count(statistic.exist_count, lang),
          })}
    </p>
  );
}

function Tree({ alert }: { alert: AlertDetail }) {
  const { t } = useTexts();
  const nodes = fromRoot(alert.context.process_tree);
  if (nodes.length === 0) return <p className="y-dim">{t("alert.noTree")}</p>;
  return (
    <ul className="y-tree">
      {nodes.map((node, index) => (
        <li
          key={index}
          data-subject={node.subject || undefined}
          style={{ paddingInlineStart: `${Math.min(node.depth, 12) * 18}px` }}
        >
          <span className="y-tree-pid y-num">{node.pid ?? ""}</span>
          <span className="y-mono y-tree-command">
            <Long text={node.command || node.name} />
          </span>
          {node.subject && <span className="y-tree-here">{t("alert.treeSubject")}</span>}
          <span className="y-dim">{node.user}</span>
          {node.time && (
            <span className="y-dim">
              <At time={node.time} />
            </span>
          )}
        </li>
      ))}
    </ul>
  );
}

function Nearby({ alert }: { alert: AlertDetail }) {
  const { t } = useTexts();
  const typeName = useTypeName();
  const summary = useSummary();
  const own = eventOf(alert.raw);
  const events = alert.context.nearby_events.filter((event) => event.id !== own?.id);
  if (events.length === 0) return <p className="y-dim y-padded">{t("alert.noNearby")}</p>;
  return (
    <table className="y-table y-table-wrap">
      <tbody>
        {inOrder(own ? [...events, own] : events).map((event) => (
          <tr key={event.id} data-subject={event.id === own?.id || undefined}>
            <td className="y-dim">
              <At time={event.time} />
            </td>
            <td className="y-nowrap">{typeName(event.type)}</td>
            <td className="y-mono">
              <Long text={summary(event.type, event.data)} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
