import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signIn, startBrowser, startSite, until, type Site } from './site';

let site: Site;
let browser: Browser;

beforeAll(async () => {
  [site, browser] = await Promise.all([startSite('/some/place'), startBrowser()]);
});

afterAll(async () => {
  await browser?.close();
  await site?.stop();
});

test('works below a path: sign-in, deep links, scripts, reads and changes', async () => {
  const { page, context, problems } = await signIn(browser, site);
  expect(new URL(page.url()).pathname).toBe('/some/place/dags');
  await page.locator('tr[data-dag=probe_hello] a').first().click();
  await page.waitForURL(/\/some\/place\/dags\/probe_hello$/);
  await page.reload();
  await page.locator('[role=rowheader]').first().waitFor();
  await page.getByRole('switch', { name: /probe_hello is paused/ }).click();
  await until('active', async () => !(await site.api<{ is_paused: boolean }>('/api/v2/dags/probe_hello')).is_paused);
  expect(problems).toEqual([]);
  await context.close();
});
