import { Anchor } from "@mantine/core";
import { Link } from "react-router";

import { useTexts } from "../i18n";
import { PageHead } from "../ui/parts";
import { Empty } from "../ui/State";

export function NotFoundPage() {
  const { t } = useTexts();
  return (
    <>
      <PageHead title={t("state.notFound")} />
      <Empty title={t("state.notFound")} hint={t("state.notFoundHint")}>
        <Anchor component={Link} to="/">
          {t("state.toOverview")}
        </Anchor>
      </Empty>
    </>
  );
}
