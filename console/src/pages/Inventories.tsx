import { Tabs, TextInput } from "@mantine/core";
import { useState } from "react";

import { useInventory } from "../api/queries";
import type { HostDetail } from "../api/types";
import { INVENTORY_TYPES } from "../api/types";
import { useTexts } from "../i18n";
import { count } from "../lib/format";
import { Ago, Long, Panel, useTypeName } from "../ui/parts";
import { Empty, Failure, Loading } from "../ui/State";

/** Fields in the order of the data contract; others follow. */
const COLUMNS: Record<string, readonly string[]> = {
  userlist: ["name", "description", "status"],
  listening: ["proto", "address", "name", "pid"],
  service: ["name", "started", "startmode", "startname", "pathname", "caption"],
  startup: ["name", "command", "location", "user"],
  crontab: ["rule", "user", "command", "name", "arg", "description"],
  processlist: ["pid", "ppid", "name", "command", "starttime"],
  package: ["name", "version", "arch", "manager", "source", "vendor", "installtime"],
  module: ["name", "state", "signed", "taint", "version", "path", "usedby", "size"],
  sshkey: ["user", "kind", "fingerprint", "comment", "options", "path"],
  sudoer: ["name", "host", "runas", "tags", "commands", "location", "line"],
  container: ["engine", "name", "image", "state", "privileged", "pid", "started", "id"],
};

export function Inventories({ host }: { host: HostDetail }) {
  const { t, lang } = useTexts();
  const typeName = useTypeName();
  const [chosen, setChosen] = useState<string | null>(null);
  const order = (type: string) => (INVENTORY_TYPES as readonly string[]).indexOf(type);
  const list = [...host.inventories].sort((a, b) => order(a.type) - order(b.type));
  const current = list.find(({ type }) => type === chosen) ?? list[0];
  return (
    <Panel title={t("host.inventories")} flush>
      {!current && <Empty title={t("host.noInventories")} />}
      {current && (
        <Tabs value={current.type} onChange={setChosen} keepMounted={false}>
          <Tabs.List>
            {list.map(({ type, count: rows }) => (
              <Tabs.Tab key={type} value={type}>
                {typeName(type)} <span className="y-dim y-num">{count(rows, lang)}</span>
              </Tabs.Tab>
            ))}
          </Tabs.List>
          <Tabs.Panel value={current.type}>
            {/* A changed inventory is read again. */}
            <Rows
              key={`${current.type} ${current.uptime}`}
              agentId={host.agent_id}
              type={current.type}
            />
          </Tabs.Panel>
        </Tabs>
      )}
    </Panel>
  );
}

function Rows({ agentId, type }: { agentId: string; type: string }) {
  const { t } = useTexts();
  const inventory = useInventory(agentId, type);
  const [text, setText] = useState("");
  if (inventory.isPending) return <Loading />;
  if (inventory.isError) return <Failure error={inventory.error} retry={inventory.refetch} />;

  const { data, uptime } = inventory.data;
  const needle = text.trim().toLowerCase();
  const rows = data.filter(
    (row) => needle === "" || Object.values(row).some((v) => v.toLowerCase().includes(needle)),
  );
  const known = COLUMNS[type] ?? [];
  const present = new Set(data.flatMap((row) => Object.keys(row)));
  const columns = [
    ...known.filter((field) => present.has(field)),
    ...[...present].filter((field) => !known.includes(field)),
  ];
  return (
    <>
      <div className="y-tab-tools">
        <TextInput
          size="xs"
          type="search"
          className="y-grow"
          aria-label={t("host.inventoryFilter")}
          placeholder={t("host.inventoryFilter")}
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
        />
        <span className="y-dim">
          <Ago time={uptime} />
        </span>
      </div>
      {rows.length === 0 ? (
        <Empty title={data.length === 0 ? t("host.inventoryEmpty") : t("host.inventoryNoMatch")} />
      ) : (
        <div className="y-rows" tabIndex={0} role="region" aria-label={t("host.inventories")}>
          <table className="y-table y-table-wrap">
            <thead>
              <tr>
                {columns.map((column) => (
                  <th key={column} scope="col" className="y-mono">
                    {column}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row, index) => (
                <tr key={index}>
                  {columns.map((column) => (
                    <td key={column}>
                      <Long text={row[column] ?? ""} />
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}
