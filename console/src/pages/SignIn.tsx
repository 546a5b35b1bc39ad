import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useState } from "react";

import { useSignIn } from "../api/queries";
import { useTexts } from "../i18n";
import { Door } from "../ui/Door";
import { InlineError } from "../ui/State";

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
        {signIn.isError && <InlineError error={signIn.error} />}
        <Button type="submit" loading={signIn.isPending} fullWidth>
          {t("signIn.submit")}
        </Button>
      </form>
      <p className="y-dim y-door-version">{version}</p>
    </Door>
  );
}
