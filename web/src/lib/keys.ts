import { useEffect, useRef } from 'react';

/** Keyboard shortcuts. A key is written as Shift+C, Ctrl+K (also Cmd), g, / … */

export interface Shortcut {
  keys: string;
  does: string;
  run: () => void;
}

const active: Shortcut[][] = [];

export function activeShortcuts(): Shortcut[] {
  return active.flat();
}

export function keyName(e: KeyboardEvent): string {
  const parts: string[] = [];
  if (e.ctrlKey || e.metaKey) parts.push('Ctrl');
  if (e.altKey) parts.push('Alt');
  const key = e.key === ' ' ? 'space' : e.key;
  if (e.shiftKey && (key.length > 1 || /[a-z]/i.test(key))) parts.push('Shift');
  parts.push(key.length === 1 && parts.length > 0 ? key.toUpperCase() : key);
  return parts.join('+');
}

function typing(t: EventTarget | null): boolean {
  const e = t as HTMLElement | null;
  return !!e && (e.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(e.tagName));
}

window.addEventListener('keydown', (e) => {
  if (e.defaultPrevented) return;
  const name = keyName(e);
  const plain = !e.ctrlKey && !e.metaKey;
  if (plain && typing(e.target) && !(e.target instanceof HTMLInputElement && e.target.type === 'checkbox')) return;
  if (plain && document.querySelector('dialog[open]')) return;
  for (let i = active.length - 1; i >= 0; i--) {
    const hit = active[i]?.find((s) => s.keys.split(' ').includes(name));
    if (hit) {
      e.preventDefault();
      hit.run();
      return;
    }
  }
});

/** Shortcuts while the component is there; later ones win. */
export function useShortcuts(list: Shortcut[]): void {
  const ref = useRef(list);
  useEffect(() => {
    ref.current = list;
  });
  useEffect(() => {
    const entry: Shortcut[] = ref.current.map((s, i) => ({ keys: s.keys, does: s.does, run: () => ref.current[i]?.run() }));
    active.push(entry);
    return () => {
      active.splice(active.indexOf(entry), 1);
    };
  }, []);
}
