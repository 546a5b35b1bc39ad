import { Component } from "react";
import type { ReactNode } from "react";

import { useTexts } from "../i18n";

/** Shows a way out when a page throws, in place of an empty window. */
export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    return this.state.error ? <Crash error={this.state.error} /> : this.props.children;
  }
}

function Crash({ error }: { error: Error }) {
  const { t } = useTexts();
  return (
    <div className="y-state y-state-page" role="alert">
      <h1 className="y-state-title">{t("state.unexpected")}</h1>
      <p className="y-mono">{error.message}</p>
      <button type="button" className="y-plain-button" onClick={() => window.location.reload()}>
        {t("state.reload")}
      </button>
    </div>
  );
}
