import react from '@vitejs/plugin-react';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vitest/config';

/** Writes a compressed copy beside every script and style, so that the server need not compress. */
function compress(): Plugin {
  return {
    name: 'gust-compress',
    apply: 'build',
    closeBundle() {
      const walk = (dir: string) => {
        for (const name of readdirSync(dir)) {
          const file = join(dir, name);
          if (statSync(file).isDirectory()) walk(file);
          else if (/\.(js|css|svg)$/.test(name)) writeFileSync(file + '.gz', gzipSync(readFileSync(file), { level: 9 }));
        }
      };
      walk('dist');
    },
  };
}

export default defineConfig({
  // Assets are relative to <base>, which the server sets: the UI works under any path prefix.
  base: './',
  plugins: [react(), compress()],
  build: { target: 'es2022', modulePreload: { polyfill: false }, assetsInlineLimit: 0, reportCompressedSize: false },
  server: { proxy: { '/api': 'http://127.0.0.1:8080', '/ui': 'http://127.0.0.1:8080', '/auth': 'http://127.0.0.1:8080' } },
  test: { include: ['src/**/*.test.ts', 'src/**/*.test.tsx'] },
});
