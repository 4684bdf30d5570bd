import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';

/** A real `gust standalone` over sample DAGs, and a real Chromium. */

const here = dirname(fileURLToPath(import.meta.url));
export const root = resolve(here, '../..');
export const pictures = resolve(here, '../build/screenshots');
const password = 'a-password-of-the-browser-tests';

export interface Site {
  url: string;
  home: string;
  api: <T>(path: string, init?: { method?: string; body?: unknown }) => Promise<T>;
  status: (path: string, init?: { method?: string; body?: unknown }) => Promise<number>;
  stop: () => Promise<void>;
}

const bash = 'airflow.providers.standard.operators.bash.BashOperator';
const empty = 'airflow.providers.standard.operators.empty.EmptyOperator';

/** 1,000 tasks in 40 groups of 25: what the grid has to draw quickly. */
function wide(): string {
  const lines = ['wide:', '  description: A thousand tasks in forty groups', '  schedule: null', '  start_date: 2025-01-01', '  is_paused_upon_creation: false', '  max_active_runs: 30', '  max_active_tasks: 1000', '  tags: [big]', '  task_groups:'];
  for (let g = 0; g < 40; g++) lines.push(`    - group_name: part_${String(g).padStart(2, '0')}`);
  lines.push('  tasks:');
  for (let g = 0; g < 40; g++) {
    for (let t = 0; t < 25; t++) {
      const group = `part_${String(g).padStart(2, '0')}`;
      lines.push(`    - task_id: step_${String(t).padStart(2, '0')}_${g}`, `      operator: ${empty}`, `      task_group_name: ${group}`);
      if (t > 0) lines.push(`      dependencies: [step_${String(t - 1).padStart(2, '0')}_${g}]`);
    }
  }
  return lines.join('\n') + '\n';
}

const extra: Record<string, string> = {
  'wide.yml': wide(),
  // Texts as an attacker would write them, wherever users' words are shown.
  'hostile.yml': `hostile:
  description: "<img src=x onerror=window.__pwned=1> description"
  doc_md: "<script>window.__pwned=1</script> [click](javascript:window.__pwned=1)"
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: false
  tags: ["<b onmouseover=window.__pwned=1>tag</b>"]
  tasks:
    - task_id: talk
      operator: ${bash}
      bash_command: |
        printf '<script>window.__pwned=1</script>\\n'
        printf '\\033[31mred words\\033[0m plain \\033]8;;javascript:window.__pwned=1\\007link\\033]8;;\\007\\n'
        printf '\\342\\200\\256right to left\\n'
        echo '<img src=x onerror=window.__pwned=1>'
`,
  'talkative.yml': `talkative:
  description: Writes a line now and then
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: false
  tasks:
    - task_id: talk
      operator: ${bash}
      bash_command: "for i in $(seq 1 400); do echo line $i; sleep 0.1; done"
    - task_id: after
      operator: ${bash}
      bash_command: "echo after"
      dependencies: [talk]
`,
  'forms.yml': `forms:
  description: Every kind of param
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: false
  params:
    count: {__type__: airflow.sdk.Param, default: 3, type: integer, minimum: 1, maximum: 10, title: How many, description: A number from 1 to 10}
    colour: {__type__: airflow.sdk.Param, default: red, type: string, enum: [red, green, blue]}
    really: {__type__: airflow.sdk.Param, default: false, type: boolean}
    day: {__type__: airflow.sdk.Param, default: "2026-01-31", type: string, format: date}
    words: {__type__: airflow.sdk.Param, default: [one, two], type: array}
    settings: {__type__: airflow.sdk.Param, default: {a: 1}, type: object}
    maybe: {__type__: airflow.sdk.Param, default: null, type: ["null", string]}
    text: plain
  tasks:
    - task_id: show
      operator: ${bash}
      bash_command: "echo {{ params }}"
`,
};

/** With a base path the server knows that it is reached below it. */
export async function startSite(base = ''): Promise<Site> {
  const gust = process.env['GUST_BINARY'] ?? join(root, 'bin/gust');
  if (!existsSync(gust)) throw new Error(`${gust} is missing: make build`);
  const home = mkdtempSync(join(tmpdir(), 'gust-web-'));
  const dags = join(home, 'dags');
  mkdirSync(dags);
  for (const f of ['hello_chain.yml', 'branching.yml', 'groups_setup_teardown.yml', 'mapped_etl.yml', 'assets.yml', 'retries_and_pools.yml', 'sensor.yml']) cpSync(join(root, 'dags', f), join(dags, f));
  cpSync(join(root, 'testdata/vectors/api/dags'), dags, { recursive: true });
  for (const [name, text] of Object.entries(extra)) writeFileSync(join(dags, name), text);
  const child: ChildProcess = spawn(gust, ['standalone', '--home', home, '--dags-folder', dags, '--host', '127.0.0.1', '--port', '0'], {
    env: { ...process.env, GUST_ADMIN_PASSWORD: password, ...(base ? { AIRFLOW__API__BASE_URL: 'http://127.0.0.1' + base } : {}) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  const url = await new Promise<string>((done, fail) => {
    const timer = setTimeout(() => fail(new Error('the server did not start:\n' + said)), 120_000);
    const read = (b: Buffer) => {
      said += b.toString();
      const m = /http:\/\/[\d.]+:\d+/.exec(said);
      if (m) {
        clearTimeout(timer);
        done(m[0]);
      }
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.on('exit', (code) => fail(new Error(`the server ended with ${code}:\n${said}`)));
  });
  const token = await fetch(url + '/auth/token', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ username: 'admin', password }) }).then((r) => r.json() as Promise<{ access_token: string }>);
  const ask = (path: string, init: { method?: string; body?: unknown } = {}) =>
    fetch(`${url}${path}`, { method: init.method ?? 'GET', headers: { Authorization: `Bearer ${token.access_token}`, 'Content-Type': 'application/json' }, ...(init.body === undefined ? {} : { body: JSON.stringify(init.body) }) });
  return {
    url: url + base,
    home,
    api: async <T>(path: string, init?: { method?: string; body?: unknown }) => {
      const r = await ask(path, init);
      if (!r.ok) throw new Error(`${init?.method ?? 'GET'} ${path}: ${r.status} ${await r.text()}`);
      return (r.status === 204 ? undefined : await r.json()) as T;
    },
    status: async (path, init) => (await ask(path, init)).status,
    stop: async () => {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill('SIGTERM');
      await Promise.race([ended, new Promise((done) => setTimeout(done, 15_000))]);
      if (child.exitCode === null) child.kill('SIGKILL');
      rmSync(home, { recursive: true, force: true });
    },
  };
}

export async function startBrowser(): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((p) => existsSync(p));
  if (!executablePath) throw new Error('Chromium is missing: apt-get install chromium, or name one in CHROMIUM');
  mkdirSync(pictures, { recursive: true });
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
}

/** A page in a context of its own, signed in through the login page. Problems are collected in `problems`. */
export async function signIn(browser: Browser, site: Site, size = { width: 1440, height: 900 }): Promise<{ page: Page; context: BrowserContext; problems: string[] }> {
  const context = await browser.newContext({ viewport: size, acceptDownloads: true });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on('pageerror', (e) => problems.push(`page error: ${e.message}`));
  page.on('console', (m) => {
    if (m.type() === 'error' && !/status of 40[149]/.test(m.text())) problems.push(`console: ${m.text()}`);
  });
  page.on('request', (r) => {
    const u = r.url();
    if (!u.startsWith(site.url) && !u.startsWith('data:') && !u.startsWith('blob:')) problems.push(`foreign request: ${u}`);
  });
  await page.goto(site.url + '/dags');
  await page.waitForURL(/auth\/login/);
  await page.fill('input[name=username]', 'admin');
  await page.fill('input[name=password]', password);
  await Promise.all([page.waitForURL(/\/dags/), page.click('button[type=submit], input[type=submit]')]);
  return { page, context, problems };
}

/** Waits until the server says what a test expects; the states of runs come when they come. */
export async function until<T>(what: string, f: () => Promise<T | undefined | false | null>, seconds = 60): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const v = await f();
    if (v) return v;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((done) => setTimeout(done, 250));
  }
}
