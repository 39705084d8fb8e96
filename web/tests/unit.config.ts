import { defineConfig } from "@playwright/test";

// Tests of what needs neither browser nor server.
export default defineConfig({ testDir: "unit", reporter: "line", outputDir: "../test-results/unit" });
