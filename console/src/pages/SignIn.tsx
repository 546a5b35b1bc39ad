import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useState } from "react";

import { ApiError } from "../api/client";
import { useSignIn } from "../api/queries";
import { useTexts } from "../i18n";
import { Door } from "../ui/Door";
import { InlineError, Problem } from "../ui/State";

export function SignInPage({ version }: { version: string }) {
  const { t } = useTexts();
  const signIn = useSignIn();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");

  return (
    <Door title={t("signIn.title")}>
      <form
        className="y-form"
        onSubmit={(event) => {
          event.preventDefault();
          signIn.mutate({ username, password });
        }}
      >
        <TextInput
          label={t("signIn.username")}
          autoComplete="username"
          autoFocus
          required
          withAsterisk={false}
          value={username}
          onChange={(event) => setUsername(event.currentTarget.value)}
        />
        <PasswordInput
          label={t("signIn.password")}
          autoComplete="current-password"
          required
          withAsterisk={false}
          value={password}
          onChange={(event) => setPassword(event.currentTarget.value)}
        />
        {signIn.isError && <SignInError error={signIn.error} />}
        <Button type="submit" loading={signIn.isPending} fullWidth>
          {t("signIn.submit")}
        </Button>
      </form>
      <p className="y-dim y-door-version">{version}</p>
    </Door>
  );
}

function SignInError({ error }: { error: unknown }) {
  const { t } = useTexts();
  const status = error instanceof ApiError ? error.status : 0;
  if (status === 401) {
    return <Problem message={t("signIn.wrong")} remedy={t("signIn.wrongRemedy")} />;
  }
  if (status === 429 || status === 423) return <Problem message={t("signIn.locked")} />;
  return <InlineError error={error} />;
}
