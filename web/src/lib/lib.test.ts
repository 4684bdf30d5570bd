import { describe, expect, test } from 'vitest';
import { spans, stripped } from './ansi';
import { diffLines, tokens } from './code';
import { entriesOf, plain, visible } from './log';
import { confOf, fieldsOf, valueOf } from './params';
import { combined, stateOfLetter, unfinished } from './states';
import { ago, formatDuration, formatTime, offsetOf, shortDuration } from './time';
import type { Param } from './types';

describe('time', () => {
  test('zones, summer time included', () => {
    expect(formatTime('2026-07-01T12:00:00Z', 'UTC')).toBe('2026-07-01 12:00:00');
    expect(formatTime('2026-07-01T22:30:00.5Z', 'Europe/Berlin')).toBe('2026-07-02 00:30:00');
    expect(formatTime(null, 'UTC')).toBe('');
    expect(formatTime('no time', 'UTC')).toBe('no time');
    expect(offsetOf('Europe/Berlin', new Date('2026-01-01T00:00:00Z'))).toBe('+01:00');
    expect(offsetOf('Europe/Berlin', new Date('2026-07-01T00:00:00Z'))).toBe('+02:00');
    expect(offsetOf('America/St_Johns', new Date('2026-01-01T00:00:00.900Z'))).toBe('-03:30');
    expect(offsetOf('UTC')).toBe('+00:00');
  });
  test('durations', () => {
    expect(formatDuration(3661.5)).toBe('01:01:01.500');
    expect(formatDuration(90061)).toBe('1 d 01:01:01.000');
    expect(formatDuration(null)).toBe('');
    expect(shortDuration(0.25)).toBe('250 ms');
    expect(shortDuration(59.9)).toBe('60 s');
    expect(shortDuration(185)).toBe('3 m 5 s');
    expect(shortDuration(7440)).toBe('2 h 4 m');
    expect(ago('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:05:00Z'))).toBe('5 m ago');
    expect(ago('2026-01-01T03:00:00Z', Date.parse('2026-01-01T00:00:00Z'))).toBe('in 3 h');
  });
});

describe('states', () => {
  test('letters and the one that stands for several', () => {
    expect(stateOfLetter('f')).toBe('failed');
    expect(stateOfLetter('.')).toBeNull();
    expect(stateOfLetter(' ')).toBeUndefined();
    expect(combined(['success', 'running', null])).toBe('running');
    expect(combined(['success', 'failed', 'running'])).toBe('failed');
    expect(combined(['skipped', 'success', undefined])).toBe('success');
    expect(combined([undefined])).toBeUndefined();
    expect(unfinished('up_for_retry')).toBe(true);
    expect(unfinished(null)).toBe(true);
    expect(unfinished('skipped')).toBe(false);
    expect(unfinished(undefined)).toBe(false);
  });
});

describe('ansi', () => {
  test('colours become classes', () => {
    expect(spans('a \u001b[31;1mred\u001b[0m b')).toEqual([{ text: 'a ', className: '' }, { text: 'red', className: 'fg-1 bold' }, { text: ' b', className: '' }]);
    expect(spans('\u001b[38;5;9mx\u001b[39my')).toEqual([{ text: 'x', className: 'fg-9' }, { text: 'y', className: '' }]);
    expect(spans('\u001b[38;2;1;2;3mx')).toEqual([{ text: 'x', className: '' }]);
  });
  test('nothing else gets through', () => {
    const hostile = '\u001b]8;;javascript:alert(1)\u0007link\u001b]8;;\u0007 \u001b[2J\u001b]0;title\u001b\\<b>x</b>\u0000';
    expect(stripped(hostile)).toBe('link <b>x</b>');
    expect(spans(hostile).map((s) => s.text).join('')).toBe('link <b>x</b>');
  });
});

describe('log', () => {
  const lines = [{ event: 'start', level: 'info' }, { event: '::group::Pre', level: 'info' }, { event: 'inner', level: 'debug', logger: 'a' }, { event: '::group::Deep' }, { event: 'deepest', level: 'error' }, { event: '::endgroup::' }, { event: '::endgroup::' }, { event: 'end', level: 'error', logger: 'b', timestamp: '2026-01-01T00:00:00Z' }];
  test('groups fold, with what is inside of them', () => {
    const e = entriesOf(lines);
    expect(e.map((x) => [x.no, x.text, x.group])).toEqual([[1, 'start', undefined], [2, 'Pre', undefined], [3, 'inner', 2], [4, 'Deep', 2], [5, 'deepest', 4], [8, 'end', undefined]]);
    expect(visible(e, '', '', new Set([2])).map((x) => x.no)).toEqual([1, 2, 8]);
    expect(visible(e, '', '', new Set([4])).map((x) => x.no)).toEqual([1, 2, 3, 4, 8]);
  });
  test('levels, sources, text', () => {
    const e = entriesOf(lines);
    expect(visible(e, 'error', '', new Set()).map((x) => x.no)).toEqual([2, 4, 5, 8]);
    expect(visible(e, '', 'b', new Set()).map((x) => x.no)).toEqual([8]);
    expect(plain(e.slice(-1))).toBe('[2026-01-01T00:00:00Z] ERROR - end\n');
  });
});

describe('params', () => {
  const p = (value: unknown, schema: Param['schema'] = {}): Param => ({ value, schema, description: null });
  const params = {
    count: p(3, { type: 'integer', minimum: 1, maximum: 10 }), ratio: p(0.5, { type: 'number' }), colour: p('red', { enum: ['red', 'green', null] }), flag: p(false, { type: 'boolean' }), day: p('2026-01-31', { type: 'string', format: 'date' }),
    list: p(['a'], { type: 'array' }), object: p({ a: 1 }, { type: 'object' }), maybe: p(null, { type: ['null', 'string'] }), needed: p(null, { type: 'string' }), text: p('plain'), number: p(7), mixed: p([1, { a: 2 }]),
  };
  const fields = fieldsOf(params);
  const kind = Object.fromEntries(fields.map((f) => [f.name, f.kind]));
  test('a field by schema, or by value where there is none', () => {
    expect(kind).toEqual({ count: 'integer', ratio: 'number', colour: 'select', flag: 'boolean', day: 'date', list: 'lines', object: 'json', maybe: 'text', needed: 'text', text: 'text', number: 'number', mixed: 'json' });
    expect(fields.filter((f) => f.required).map((f) => f.name)).toEqual(['count', 'ratio', 'day', 'list', 'object', 'needed']);
  });
  test('what is left alone keeps its value exactly', () => {
    const { conf, errors } = confOf(fields, { needed: 'x' }, { other: true });
    expect(errors).toEqual({});
    expect(conf).toEqual({ other: true, count: 3, ratio: 0.5, colour: 'red', flag: false, day: '2026-01-31', list: ['a'], object: { a: 1 }, maybe: null, needed: 'x', text: 'plain', number: 7, mixed: [1, { a: 2 }] });
  });
  test('values and what is wrong with them', () => {
    const f = Object.fromEntries(fields.map((x) => [x.name, x]));
    const of = (name: string, text: string) => valueOf(f[name] as (typeof fields)[0], text);
    expect(of('count', '11').error).toContain('10');
    expect(of('count', '2.5').error).toContain('whole');
    expect(of('count', '').error).toBeTruthy();
    expect(of('count', '4')).toEqual({ value: 4 });
    expect(of('colour', 'null')).toEqual({ value: null });
    expect(of('list', 'a\n\n b ')).toEqual({ value: ['a', 'b'] });
    expect(of('object', '{').error).toContain('JSON');
    expect(of('maybe', '')).toEqual({ value: null });
    expect(of('needed', '').error).toBeTruthy();
    expect(of('flag', 'true')).toEqual({ value: true });
  });
  test('an earlier conf fills the form', () => {
    expect(fieldsOf(params, { count: 9 })[0]?.initial).toBe('9');
  });
});

describe('code', () => {
  test('colours keep the text', () => {
    for (const line of ['dag: # a comment', '  - task_id: "x: y"', "  schedule: '0 6 * * *' # daily", '  n: 3', 'plain text', '', '  bash_command: echo {{ ds }}: x']) expect(tokens(line, 'yaml').map((t) => t.text).join('')).toBe(line);
    expect(tokens('  n: 3', 'yaml').find((t) => t.kind === 'num')?.text).toBe('3');
    expect(tokens('def f(x): return "a" # c', 'python').filter((t) => t.kind).map((t) => t.kind)).toEqual(['kw', 'kw', 'str', 'com']);
  });
  test('diff', () => {
    expect(diffLines('a\nb\nc', 'a\nx\nc').map((l) => l.kind + l.text)).toEqual([' a', '-b', '+x', ' c']);
    expect(diffLines('a', 'a')).toEqual([{ kind: ' ', text: 'a' }]);
    expect(diffLines('a\nb', 'b').map((l) => l.kind + l.text)).toEqual(['-a', ' b']);
  });
});
