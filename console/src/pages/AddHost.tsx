import { Anchor, Button, Modal, NativeSelect, NumberInput } from "@mantine/core";
import { useRef, useState } from "react";
import { Link } from "react-router";

import { useCreateToken, useHosts } from "../api/queries";
import type { JoinToken } from "../api/types";
import { useTexts } from "../i18n";
import { relative } from "../lib/format";
import { Copy } from "../ui/parts";
import { InlineError } from "../ui/State";

/** While a person waits for their host, the list is asked more often. */
const WAIT_REFRESH_MS = 2_000;

export function AddHost({ onClose }: { onClose: () => void }) {
  const { t } = useTexts();
  const create = useCreateToken();
  const [ttl, setTtl] = useState("3600");
  const [uses, setUses] = useState<number | string>(1);
  const valid = typeof uses === "number" && uses >= 1;

  return (
    <Modal
      opened
      onClose={onClose}
      size="lg"
      title={t("addHost.title")}
      closeButtonProps={{ "aria-label": t("state.close") }}
    >
      {create.data ? (
        <Command token={create.data} onAgain={create.reset} onClose={onClose} />
      ) : (
        <form
          className="y-form"
          onSubmit={(event) => {
            event.preventDefault();
            if (valid) create.mutate({ ttl_secs: Number(ttl), uses });
          }}
        >
          <p className="y-dim">{t("addHost.intro")}</p>
          <div className="y-form-row">
            <NativeSelect
              label={t("addHost.ttl")}
              value={ttl}
              onChange={(event) => setTtl(event.currentTarget.value)}
              data={[
                { value: "3600", label: t("addHost.hours", { count: 1 }) },
                { value: "28800", label: t("addHost.hours", { count: 8 }) },
                { value: "86400", label: t("addHost.days", { count: 1 }) },
                { value: "604800", label: t("addHost.days", { count: 7 }) },
              ]}
            />
            <NumberInput
              label={t("addHost.uses")}
              min={1}
              max={10000}
              allowDecimal={false}
              value={uses}
              onChange={setUses}
            />
          </div>
          {create.isError && <InlineError error={create.error} />}
          <Button type="submit" loading={create.isPending} disabled={!valid}>
            {t("addHost.create")}
          </Button>
        </form>
      )}
    </Modal>
  );
}

interface CommandProps {
  token: JoinToken;
  onAgain: () => void;
  onClose: () => void;
}

function Command({ token, onAgain, onClose }: CommandProps) {
  const { t, lang } = useTexts();
  const hosts = useHosts(WAIT_REFRESH_MS);
  const before = useRef<Set<string> | null>(null);
  if (before.current === null && hosts.data) {
    before.current = new Set(hosts.data.map((host) => host.agent_id));
  }
  const joined = hosts.data?.filter((host) => !before.current?.has(host.agent_id)) ?? [];
  return (
    <div className="y-form">
      <strong>{t("addHost.command")}</strong>
      <div className="y-command">
        <code>{token.command}</code>
        <Copy value={token.command} />
      </div>
      <p className="y-dim">
        {t("addHost.once", { time: relative(token.expires_at, Date.now(), lang) })}
      </p>
      <div role="status" className="y-joined">
        {joined.length === 0 && <p className="y-dim y-pulse">{t("addHost.waiting")}</p>}
        {joined.map((host) => (
          <p key={host.agent_id}>
            <strong>{t("addHost.joined", { host: host.hostname })}</strong>{" "}
            <Anchor component={Link} to={`/hosts/${host.agent_id}`} onClick={onClose}>
              {t("addHost.open")}
            </Anchor>
          </p>
        ))}
      </div>
      <Button variant="default" size="xs" onClick={onAgain}>
        {t("addHost.another")}
      </Button>
    </div>
  );
}
