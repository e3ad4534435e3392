import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Addresses are relative to <base>, which the server writes: the page works under any prefix.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    outDir: "../src/longtake/service/page",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the page's Content-Security-Policy allows no data: addresses
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8484" } },
  test: { include: ["src/**/*.test.ts"] },
});
