import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/parts.css";
import "./styles/alerts.css";
import "./styles/pages.css";

import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";

import { ApiError, whenSignedOut } from "./api/client";
import { App } from "./app";
import { start } from "./i18n";
import { theme } from "./theme";
import { Boundary } from "./ui/Boundary";

start();

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // An answer from the server stays the same when asked again; only silence is worth a retry.
      retry: (failures, error) => failures < 2 && error instanceof ApiError && error.status === 0,
      retryDelay: 500,
    },
  },
});
whenSignedOut(() => client.setQueryData(["session"], null));

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      {/* Style tags made at run time would need an exception in the content security policy:
          the variables are in styles/base.css instead. */}
      <MantineProvider
        theme={theme}
        defaultColorScheme="auto"
        withCssVariables={false}
        withGlobalClasses={false}
      >
        <Notifications position="bottom-right" limit={3} />
        <QueryClientProvider client={client}>
          <Boundary>
            <BrowserRouter>
              <App />
            </BrowserRouter>
          </Boundary>
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}
