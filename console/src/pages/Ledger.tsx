import { Link } from "react-router";

import { useBooks } from "../api/queries";
import { useTexts } from "../i18n";
import { byUrgency, fleetTotal } from "../lib/ledger";
import { Books, Verdict } from "../ui/Books";
import { PageHead, Panel } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";

export function LedgerPage() {
  const { t } = useTexts();
  const books = useBooks();
  return (
    <>
      <PageHead title={t("ledger.title")} />
      <p className="y-note">{t("ledger.intro")}</p>
      {books.isPending && <Loading />}
      {books.isError && <Failure error={books.error} retry={books.refetch} />}
      {books.data && !books.isError && books.data.length === 0 && (
        <div className="y-panel">
          <Empty title={t("ledger.empty")} hint={t("ledger.emptyHint")} />
        </div>
      )}
      {!books.isError &&
        byUrgency(books.data ?? []).map((host) => (
          <Panel
            key={host.agent_id}
            title={<Link to={`/hosts/${host.agent_id}`}>{host.hostname}</Link>}
            aside={<Verdict balanced={fleetTotal([host]).balanced} />}
            flush
          >
            {Object.keys(host.streams).length === 0 ? (
              <p className="y-dim y-padded">{t("host.noBooks")}</p>
            ) : (
              <Books streams={host.streams} label={`${t("ledger.title")}: ${host.hostname}`} />
            )}
          </Panel>
        ))}
    </>
  );
}
