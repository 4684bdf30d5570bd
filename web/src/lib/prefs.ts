import { useSyncExternalStore } from 'react';

/** What this browser remembers: appearance, time zone, sizes. */

const listeners = new Set<() => void>();
const memory = new Map<string, string>();

function read(key: string): string | null {
  const m = memory.get(key);
  if (m !== undefined) return m;
  try {
    return localStorage.getItem('gust.' + key);
  } catch {
    return null;
  }
}

export function setPref(key: string, value: string): void {
  memory.set(key, value);
  try {
    localStorage.setItem('gust.' + key, value);
  } catch {
    /* storage is off: it holds until the page is left */
  }
  for (const l of listeners) l();
}

function subscribe(l: () => void): () => void {
  listeners.add(l);
  return () => listeners.delete(l);
}

export function usePref(key: string, def: string): [string, (v: string) => void] {
  const value = useSyncExternalStore(subscribe, () => read(key) ?? def, () => def);
  return [value, (v) => setPref(key, v)];
}

const media = window.matchMedia('(prefers-color-scheme: dark)');

export function applyTheme(): void {
  const choice = read('theme') ?? 'system';
  const dark = choice === 'dark' || (choice === 'system' && media.matches);
  document.documentElement.dataset['theme'] = dark ? 'dark' : 'light';
}

/** Keeps the theme in step with the choice and the system. */
export function watchTheme(): void {
  media.addEventListener('change', applyTheme);
  listeners.add(applyTheme);
  applyTheme();
}
