import { ActionIcon, Menu, Tooltip, useMantineColorScheme } from "@mantine/core";
import {
  IconBell,
  IconBook2,
  IconDeviceDesktop,
  IconLanguage,
  IconLayoutDashboard,
  IconLogout,
  IconMoon,
  IconSearch,
  IconServer2,
  IconSun,
  IconUser,
} from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { NavLink } from "react-router";

import { useOverview, useSignOut } from "../api/queries";
import { useLiveAlerts, useLiveState } from "../api/stream";
import type { Session } from "../api/types";
import { setLanguage, useTexts } from "../i18n";
import { compact } from "../lib/format";
import { Clock } from "./parts";

export function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true" className="y-mark">
      <rect width="32" height="32" rx="7" />
      <path d="M7 8l9 8 9-8M16 16v9M9 17l7 8 7-8" />
    </svg>
  );
}

const NAV = [
  { to: "/", key: "overview", Icon: IconLayoutDashboard },
  { to: "/alerts", key: "alerts", Icon: IconBell },
  { to: "/hosts", key: "hosts", Icon: IconServer2 },
  { to: "/search", key: "search", Icon: IconSearch },
  { to: "/ledger", key: "ledger", Icon: IconBook2 },
] as const;

export function Shell({ session, children }: { session: Session; children: ReactNode }) {
  const { t, lang } = useTexts();
  const overview = useOverview();
  const client = useQueryClient();
  useLiveAlerts(() => void client.invalidateQueries({ queryKey: ["overview"] }));
  const open = overview.data?.alerts.open;
  const total = open ? open.danger + open.suspicious + open.hint : 0;

  return (
    <Clock>
      <a className="y-skip" href="#main">
        {t("app.skip")}
      </a>
      <div className="y-shell">
        <header className="y-side">
          <NavLink to="/" className="y-brand" aria-label={t("app.name")}>
            <Mark />
            <span>{t("app.name")}</span>
          </NavLink>
          <nav className="y-nav" aria-label={t("nav.label")}>
            {NAV.map(({ to, key, Icon }) => (
              <NavLink key={to} to={to} end={to === "/"}>
                <Icon size={18} stroke={1.6} aria-hidden />
                <span>{t(`nav.${key}`)}</span>
                {key === "alerts" && total > 0 && (
                  <span className="y-nav-count" data-danger={(open?.danger ?? 0) > 0 || undefined}>
                    {compact(total, lang)}
                  </span>
                )}
              </NavLink>
            ))}
          </nav>
          <div className="y-side-foot">
            <LiveMark />
            <Preferences session={session} />
          </div>
        </header>
        <main id="main" className="y-main" tabIndex={-1}>
          {children}
        </main>
      </div>
    </Clock>
  );
}

function LiveMark() {
  const { t } = useTexts();
  const live = useLiveState();
  const text = live === undefined ? t("nav.connecting") : live ? t("nav.live") : t("nav.notLive");
  return (
    <Tooltip label={text}>
      <span className="y-live" data-live={live} role="status">
        {text}
      </span>
    </Tooltip>
  );
}

/** Language and appearance, for signed-in and signed-out pages. */
export function Looks() {
  const { t, lang } = useTexts();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const next = { auto: "light", light: "dark", dark: "auto" } as const;
  const Icon = { auto: IconDeviceDesktop, light: IconSun, dark: IconMoon }[colorScheme];
  return (
    <>
      <ActionIcon
        variant="subtle"
        color="gray"
        onClick={() => setLanguage(lang === "zh" ? "en" : "zh")}
        aria-label={lang === "zh" ? "Switch to English" : "切换到中文"}
        title={lang === "zh" ? "English" : "中文"}
      >
        <IconLanguage size={18} stroke={1.6} />
      </ActionIcon>
      <ActionIcon
        variant="subtle"
        color="gray"
        onClick={() => setColorScheme(next[colorScheme])}
        aria-label={`${t("nav.theme")}: ${t(`nav.${colorScheme}`)}`}
        title={`${t("nav.theme")}: ${t(`nav.${colorScheme}`)}`}
      >
        <Icon size={18} stroke={1.6} />
      </ActionIcon>
    </>
  );
}

function Preferences({ session }: { session: Session }) {
  const { t } = useTexts();
  const signOut = useSignOut();
  return (
    <div className="y-looks">
      <Looks />
      <Menu position="top-end" withArrow>
        <Menu.Target>
          <ActionIcon
            variant="subtle"
            color="gray"
            aria-label={`${t("nav.account")}: ${session.username}`}
            title={session.username}
          >
            <IconUser size={18} stroke={1.6} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>
            {session.username} · {session.role}
          </Menu.Label>
          <Menu.Item leftSection={<IconLogout size={16} />} onClick={() => signOut.mutate()}>
            {t("nav.signOut")}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}
