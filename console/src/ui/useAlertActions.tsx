import { Button } from "@mantine/core";
import { notifications } from "@mantine/notifications";

import { useSetAlertStatus } from "../api/queries";
import type { Alert, AlertStatus } from "../api/types";
import { useTexts } from "../i18n";
import { useErrorText } from "./State";

const UNDO_MS = 10_000;
const LEARNED = 4;

/** Changes the status of alerts and offers to take it back. */
export function useAlertActions() {
  const { t } = useTexts();
  const errorText = useErrorText();
  const { mutateAsync, isPending } = useSetAlertStatus();

  const fail = (error: unknown) => {
    const { message, remedy } = errorText(error);
    notifications.show({
      color: "red",
      title: t("alerts.changeFailed"),
      message: [message, remedy].filter(Boolean).join(" "),
    });
  };

  const undo = async (before: Alert[], notification: string) => {
    notifications.hide(notification);
    const statuses = new Set(before.map((alert) => alert.status));
    try {
      for (const status of statuses) {
        const ids = before.filter((alert) => alert.status === status).map((alert) => alert.id);
        await mutateAsync({ ids, status });
      }
    } catch (error) {
      fail(error);
    }
  };

  const set = async (alerts: Alert[], status: AlertStatus) => {
    const before = alerts.filter((alert) => alert.status !== status);
    if (before.length === 0) return;
    try {
      await mutateAsync({ ids: before.map((alert) => alert.id), status });
    } catch (error) {
      fail(error);
      return;
    }
    const id = `status-${before[0]?.id}-${status}-${Date.now()}`;
    notifications.show({
      id,
      autoClose: UNDO_MS,
      withCloseButton: true,
      message: (
        <div className="y-undo">
          <span>
            {t("alerts.changed", { count: before.length, status: t(`status.${status}`) })}
          </span>
          {/* Nothing goes back into learn mode. */}
          {before.every((alert) => alert.status !== LEARNED) && (
            <Button size="compact-xs" variant="light" onClick={() => void undo(before, id)}>
              {t("alerts.undo")}
            </Button>
          )}
        </div>
      ),
    });
  };

  return { set, busy: isPending };
}
