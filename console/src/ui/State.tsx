/** Loading, empty and failed, the same everywhere. */

import { Button, Loader, VisuallyHidden } from "@mantine/core";
import type { ReactNode } from "react";

import { ApiError } from "../api/client";
import { useTexts } from "../i18n";

export function Loading({ page = false }: { page?: boolean }) {
  const { t } = useTexts();
  return (
    <div className={page ? "y-state y-state-page" : "y-state"} role="status">
      <Loader size="sm" aria-hidden />
      <VisuallyHidden>{t("state.loading")}</VisuallyHidden>
    </div>
  );
}

interface EmptyProps {
  title: string;
  hint?: string;
  children?: ReactNode;
}

export function Empty({ title, hint, children }: EmptyProps) {
  return (
    <div className="y-state">
      <p className="y-state-title">{title}</p>
      {hint && <p className="y-dim">{hint}</p>}
      {children}
    </div>
  );
}

/** Message and remedy of any error, in plain words. */
export function useErrorText() {
  const { t } = useTexts();
  return (error: unknown): { message: string; remedy: string } => {
    if (!(error instanceof ApiError)) {
      return { message: error instanceof Error ? error.message : String(error), remedy: "" };
    }
    switch (error.code) {
      case "client_unreachable":
        return { message: t("state.unreachable"), remedy: t("state.unreachableRemedy") };
      case "client_not_json":
        return { message: t("state.notJson"), remedy: t("state.notJsonRemedy") };
      case "client_http":
        return { message: t("state.http", { status: error.status }), remedy: "" };
      default:
        // A text of our own where the code says it all; otherwise the server's, which is exact.
        return {
          message: t(`error.${error.code}.message`, { defaultValue: "" }) || error.message,
          remedy: t(`error.${error.code}.remedy`, { defaultValue: "" }) || error.remedy,
        };
    }
  };
}

interface FailureProps {
  error: unknown;
  retry?: () => unknown;
  page?: boolean;
}

export function Failure({ error, retry, page = false }: FailureProps) {
  const { t } = useTexts();
  const { message, remedy } = useErrorText()(error);
  return (
    <div className={page ? "y-state y-state-page" : "y-state"} role="alert">
      <p className="y-state-title">{t("state.errorTitle")}</p>
      <p>{message}</p>
      {remedy && (
        <p className="y-dim">
          {t("state.remedy")}: {remedy}
        </p>
      )}
      {retry && (
        <Button size="xs" variant="default" onClick={() => void retry()}>
          {t("state.retry")}
        </Button>
      )}
    </div>
  );
}

/** An error beside a form or an input. */
export function InlineError({ error }: { error: unknown }) {
  const { message, remedy } = useErrorText()(error);
  return <Problem message={message} remedy={remedy} />;
}

export function Problem({ message, remedy = "" }: { message: string; remedy?: string }) {
  return (
    <div className="y-problem" role="alert">
      <strong>{message}</strong>
      {remedy && <span>{remedy}</span>}
    </div>
  );
}
