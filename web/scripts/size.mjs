// Checks that what a browser loads before the first view stays small, and prints every chunk.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const limit = 150 * 1024;
const html = readFileSync('dist/index.html', 'utf8');
const sizes = new Map();
for (const name of readdirSync('dist/assets')) {
  if (/\.(js|css)$/.test(name)) sizes.set(name, gzipSync(readFileSync('dist/assets/' + name), { level: 9 }).length);
}
// What the page names, and everything those scripts import statically.
const first = new Set();
const add = (name) => {
  if (first.has(name) || !sizes.has(name)) return;
  first.add(name);
  const text = readFileSync('dist/assets/' + name, 'utf8');
  for (const m of text.matchAll(/(?:from|import)\s*["']\.\/([^"']+\.js)["']/g)) add(m[1]);
};
for (const m of html.matchAll(/assets\/([^"']+\.(?:js|css))/g)) add(m[1]);
let scripts = 0;
for (const [name, size] of [...sizes].sort((a, b) => b[1] - a[1])) {
  if (first.has(name) && name.endsWith('.js')) scripts += size;
  console.log(`${(size / 1024).toFixed(1).padStart(7)} KB  ${name}${first.has(name) ? '  (before the first view)' : ''}`);
}
const total = statSync('dist').isDirectory() ? [...sizes.values()].reduce((a, b) => a + b, 0) : 0;
console.log(`scripts before the first view: ${(scripts / 1024).toFixed(1)} KB gzipped (limit ${limit / 1024}); all chunks: ${(total / 1024).toFixed(1)} KB`);
if (scripts > limit) {
  console.error('error: more script before the first view than the limit; split what is not needed there');
  process.exit(1);
}
