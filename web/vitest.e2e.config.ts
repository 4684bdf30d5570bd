import { defineConfig } from 'vitest/config';

// Tests in a real browser against a real server: make test-web.
export default defineConfig({
  test: { include: ['e2e/**/*.test.ts'], fileParallelism: false, testTimeout: 120_000, hookTimeout: 180_000, bail: 0, sequence: { concurrent: false } },
});
