import { Navigate, Route, Routes } from "react-router";

import { useSession, useStatus } from "./api/queries";
import { AlertPage } from "./pages/Alert";
import { AlertsPage } from "./pages/Alerts";
import { HostPage } from "./pages/Host";
import { HostsPage } from "./pages/Hosts";
import { LedgerPage } from "./pages/Ledger";
import { NotFoundPage } from "./pages/NotFound";
import { OverviewPage } from "./pages/Overview";
import { SearchPage } from "./pages/Search";
import { SetupPage } from "./pages/Setup";
import { SignInPage } from "./pages/SignIn";
import { Shell } from "./ui/Shell";
import { Failure, Loading } from "./ui/State";

/** Decides between set-up, sign-in and the console; the address stays what was asked for. */
export function App() {
  const status = useStatus();
  const session = useSession();

  if (status.isPending || session.isPending) return <Loading page />;
  if (status.isError) return <Failure error={status.error} retry={status.refetch} page />;
  if (status.data.setup_required) return <SetupPage />;
  if (session.isError) return <Failure error={session.error} retry={session.refetch} page />;
  if (session.data === null) return <SignInPage version={status.data.version} />;

  return (
    <Shell session={session.data}>
      <Routes>
        <Route index element={<OverviewPage />} />
        <Route path="alerts" element={<AlertsPage />} />
        <Route path="alerts/:id" element={<AlertPage />} />
        <Route path="hosts" element={<HostsPage />} />
        <Route path="hosts/:id" element={<HostPage />} />
        <Route path="search" element={<SearchPage />} />
        <Route path="ledger" element={<LedgerPage />} />
        <Route path="overview" element={<Navigate to="/" replace />} />
        <Route path="*" element={<NotFoundPage />} />
      </Routes>
    </Shell>
  );
}
