import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useState } from "react";

import { useSetup, useSignIn } from "../api/queries";
import { useTexts } from "../i18n";
import { MIN_LENGTH, strength } from "../lib/password";
import { Door } from "../ui/Door";
import { InlineError } from "../ui/State";

const METER = { empty: 0, short: 1, weak: 1, fair: 2, good: 3 } as const;

export function SetupPage() {
  const { t } = useTexts();
  const setup = useSetup();
  const signIn = useSignIn();
  const [code, setCode] = useState("");
  const [username, setUsername] = useState("admin");
  const [password, setPassword] = useState("");
  const [repeat, setRepeat] = useState("");
  const verdict = strength(password, username);
  const differs = repeat !== "" && repeat !== password;
  const ready =
    code !== "" && username !== "" && repeat === password && (verdict === "fair" || verdict === "good");

  return (
    <Door title={t("setup.title")}>
      <p className="y-dim">{t("setup.intro")}</p>
      <form
        className="y-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (!ready) return;
          setup.mutate(
            { setup_code: code.trim(), username, password },
            { onSuccess: () => signIn.mutate({ username, password }) },
          );
        }}
      >
        <TextInput
          label={t("setup.code")}
          description={t("setup.codeHint")}
          autoComplete="one-time-code"
          autoFocus
          required
          withAsterisk={false}
          value={code}
          onChange={(event) => setCode(event.currentTarget.value)}
        />
        <TextInput
          label={t("setup.username")}
          autoComplete="username"
          required
          withAsterisk={false}
          value={username}
          onChange={(event) => setUsername(event.currentTarget.value)}
        />
        <div>
          <PasswordInput
            label={t("setup.password")}
            description={t("setup.passwordHint", { min: MIN_LENGTH })}
            autoComplete="new-password"
            required
            withAsterisk={false}
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          <div className="y-meter" data-score={METER[verdict]} aria-live="polite">
            <i />
            <i />
            <i />
            <span>{verdict !== "empty" && t(`setup.strength.${verdict}`)}</span>
          </div>
        </div>
        <PasswordInput
          label={t("setup.repeat")}
          autoComplete="new-password"
          required
          withAsterisk={false}
          value={repeat}
          error={differs ? t("setup.mismatch") : undefined}
          onChange={(event) => setRepeat(event.currentTarget.value)}
        />
        {setup.isError && <InlineError error={setup.error} />}
        <Button
          type="submit"
          disabled={!ready}
          loading={setup.isPending || signIn.isPending}
          fullWidth
        >
          {t("setup.submit")}
        </Button>
      </form>
    </Door>
  );
}
