import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The development server hands API calls to the mock (npm run dev:mock) or to a real server.
const api = process.env.YINGLONG_API ?? "http://127.0.0.1:8099";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    // The content security policy allows no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": { target: api, secure: false } },
  },
  test: {
    environment: "node",
    include: ["src/**/*.test.ts"],
  },
});
