/** Books of one host, stream by stream. */

import { IconAlertTriangle, IconCheck } from "@tabler/icons-react";

import type { StreamBooks } from "../api/types";
import { useTexts } from "../i18n";
import { count } from "../lib/format";
import { streamTotal } from "../lib/ledger";
import { useTypeName } from "./parts";

export function Books({ streams, label }: { streams: Record<string, StreamBooks>; label: string }) {
  const { t, lang } = useTexts();
  const typeName = useTypeName();
  const number = (value: number) => count(value, lang);
  return (
    <table className="y-table" aria-label={label}>
      <thead>
        <tr>
          <th scope="col">{t("host.stream")}</th>
          {(["emitted", "stored", "filtered", "dropped", "inFlight"] as const).map((key) => (
            <th key={key} scope="col" className="y-right">
              {t(`overview.${key}`)}
            </th>
          ))}
          <th scope="col">{t("ledger.reasons")}</th>
          <th scope="col">{t("host.balance")}</th>
        </tr>
      </thead>
      <tbody>
        {Object.entries(streams).map(([stream, books]) => {
          const total = streamTotal(books);
          return (
            <tr key={stream}>
              <th scope="row">{typeName(stream)}</th>
              <td className="y-right y-num">{number(total.emitted)}</td>
              <td className="y-right y-num">{number(total.stored)}</td>
              <td className="y-right y-num">{number(total.filtered)}</td>
              <td className="y-right y-num" data-lost={total.dropped > 0 || undefined}>
                {number(total.dropped)}
              </td>
              <td className="y-right y-num">{number(total.inFlight)}</td>
              <td>
                <ul className="y-reasons">
                  {Object.entries(books.dropped)
                    .filter(([, lost]) => lost > 0)
                    .map(([reason, lost]) => (
                      <li key={reason}>
                        {t(`reason.${reason}`, { defaultValue: reason })}: {number(lost)}
                      </li>
                    ))}
                </ul>
              </td>
              <td>
                <Verdict balanced={total.balanced} />
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

export function Verdict({ balanced }: { balanced: boolean }) {
  const { t } = useTexts();
  return (
    <span className="y-verdict" data-bad={!balanced || undefined}>
      {balanced ? (
        <IconCheck size={14} aria-hidden />
      ) : (
        <IconAlertTriangle size={14} aria-hidden />
      )}
      {balanced ? t("host.ok") : t("host.notOk")}
    </span>
  );
}
