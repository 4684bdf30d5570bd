import type { Param, Schema } from './types';

/** The form of the trigger dialog: from params and their JSON Schema to fields, and back to conf. */

export type Kind = 'boolean' | 'integer' | 'number' | 'select' | 'multiselect' | 'date' | 'time' | 'datetime' | 'lines' | 'text' | 'multiline' | 'json';

export interface Field {
  name: string;
  label: string;
  description: string;
  kind: Kind;
  required: boolean;
  nullable: boolean;
  section: string;
  schema: Schema;
  value: unknown;
  initial: string; // as text in the form; JSON for choices
  options: { value: string; label: string }[];
}

function types(s: Schema): string[] {
  return s.type === undefined ? [] : Array.isArray(s.type) ? s.type : [s.type];
}

function kindOf(s: Schema, value: unknown): Kind {
  const t = types(s).filter((x) => x !== 'null');
  if (s.enum) return 'select';
  if (t.length === 1) {
    switch (t[0]) {
      case 'boolean':
        return 'boolean';
      case 'integer':
        return 'integer';
      case 'number':
        return 'number';
      case 'array':
        if (s.examples) return 'multiselect';
        return !s.items || s.items.type === 'string' ? (Array.isArray(value) && value.some((v) => typeof v !== 'string') ? 'json' : 'lines') : 'json';
      case 'object':
        return 'json';
      case 'string':
        switch (s.format) {
          case 'date':
            return 'date';
          case 'time':
            return 'time';
          case 'date-time':
            return 'datetime';
          case 'multiline':
            return 'multiline';
        }
        return 'text';
    }
  }
  if (t.length === 0) {
    if (typeof value === 'boolean') return 'boolean';
    if (typeof value === 'number') return 'number';
    if (value !== null && typeof value === 'object') return Array.isArray(value) && value.every((v) => typeof v === 'string') ? 'lines' : 'json';
    return typeof value === 'string' || value === null || value === undefined ? 'text' : 'json';
  }
  return t.includes('string') ? 'text' : 'json';
}

function textOf(kind: Kind, v: unknown): string {
  if (kind === 'select') return JSON.stringify(v ?? null);
  if (kind === 'multiselect') return JSON.stringify(v ?? []);
  if (v === null || v === undefined) return '';
  if (kind === 'lines') return (v as unknown[]).join('\n');
  if (kind === 'json') return JSON.stringify(v, null, 2);
  if (kind === 'datetime') return String(v);
  return String(v);
}

export function fieldsOf(params: Record<string, Param>, conf: Record<string, unknown> = {}): Field[] {
  return Object.entries(params).map(([name, p]) => {
    const schema = p.schema ?? {};
    const value = name in conf ? conf[name] : p.value;
    const kind = kindOf(schema, value);
    const nullable = types(schema).includes('null') || types(schema).length === 0 || (schema.enum?.includes(null) ?? false);
    const choices = schema.enum ?? (kind === 'multiselect' ? (schema.examples ?? []) : []);
    return {
      name,
      label: schema.title ?? name,
      description: p.description ?? schema.description ?? '',
      kind,
      required: !nullable && kind !== 'boolean',
      nullable,
      section: schema.section ?? '',
      schema,
      value,
      initial: textOf(kind, value),
      options: choices.map((c) => ({ value: JSON.stringify(c), label: schema.values_display?.[String(c)] ?? (c === null ? '(none)' : String(c)) })),
    };
  });
}

/** The value of a field's text, or what is wrong with it. A field left alone keeps its value exactly. */
export function valueOf(f: Field, text: string): { value?: unknown; error?: string } {
  const s = f.schema;
  if (text === f.initial && f.value !== null && f.value !== undefined) return { value: f.value };
  if (f.kind === 'boolean') return { value: text === 'true' };
  if (f.kind === 'select' || f.kind === 'multiselect') return { value: JSON.parse(text || 'null') as unknown };
  if (text.trim() === '' && f.kind !== 'lines') return f.nullable ? { value: null } : { error: 'A value is needed.' };
  switch (f.kind) {
    case 'integer':
    case 'number': {
      const n = Number(text);
      if (!Number.isFinite(n) || (f.kind === 'integer' && !Number.isInteger(n))) return { error: f.kind === 'integer' ? 'Expected a whole number.' : 'Expected a number.' };
      if (s.minimum !== undefined && n < s.minimum) return { error: `At least ${s.minimum}.` };
      if (s.maximum !== undefined && n > s.maximum) return { error: `At most ${s.maximum}.` };
      return { value: n };
    }
    case 'lines': {
      const lines = text.split('\n').map((l) => l.trim()).filter(Boolean);
      return { value: lines };
    }
    case 'json':
      try {
        return { value: JSON.parse(text) as unknown };
      } catch (e) {
        return { error: 'Not valid JSON: ' + (e instanceof Error ? e.message : String(e)) };
      }
    case 'datetime':
      return { value: text };
    default:
      if (s.minLength !== undefined && text.length < s.minLength) return { error: `At least ${s.minLength} characters.` };
      if (s.maxLength !== undefined && text.length > s.maxLength) return { error: `At most ${s.maxLength} characters.` };
      return { value: text };
  }
}

/** The run's conf: what differs from the defaults, and everything of an earlier conf. */
export function confOf(fields: Field[], texts: Record<string, string>, extra: Record<string, unknown>): { conf: Record<string, unknown>; errors: Record<string, string> } {
  const conf: Record<string, unknown> = { ...extra };
  const errors: Record<string, string> = {};
  for (const f of fields) {
    const { value, error } = valueOf(f, texts[f.name] ?? f.initial);
    if (error) errors[f.name] = error;
    else conf[f.name] = value;
  }
  return { conf, errors };
}
