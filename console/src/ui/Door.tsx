import type { ReactNode } from "react";
import { useEffect } from "react";

import { useTexts } from "../i18n";
import { Looks, Mark } from "./Shell";

/** The frame of the pages before sign-in. */
export function Door({ title, children }: { title: string; children: ReactNode }) {
  const { t } = useTexts();
  const app = t("app.name");
  useEffect(() => {
    document.title = `${title} · ${app}`;
  }, [title, app]);
  return (
    <div className="y-door">
      <main className="y-door-card">
        <div className="y-brand">
          <Mark />
          <span>{app}</span>
          <span className="y-dim y-door-tag">{t("app.tagline")}</span>
        </div>
        <h1>{title}</h1>
        {children}
      </main>
      <div className="y-door-looks">
        <Looks />
      </div>
    </div>
  );
}
