package taskrunner

import (
	"context"
	"encoding/json"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
)

// source is one list to expand over. A plain JSON list stays text, of which an
// instance decodes its own element only: each of 10,000 instances decoding all
// 10,000 elements would make expansion quadratic.
type source struct {
	raw    []byte // a JSON list, or nil
	decode func(json.RawMessage) (jinja.Value, error)
	items  []jinja.Value
	n      int
}

// at decodes one element.
func (s *source) at(i int) (jinja.Value, error) {
	if s.raw == nil {
		return s.items[i], nil
	}
	e, _, _ := scanList(s.raw, i)
	return s.decode(e)
}

// source opens what one argument expands over.
func (t *Task) source(ctx context.Context, a airflow.ExpandArg) (*source, error) {
	raw, decode, err := t.rawSource(ctx, a)
	if err != nil {
		return nil, err
	}
	if a.XCom == nil && len(raw) > 0 && raw[0] == '[' {
		return &source{raw: raw, decode: decode, n: a.Length}, nil
	}
	if raw != nil {
		if _, n, ok := scanList(raw, -1); ok {
			return &source{raw: raw, decode: decode, n: n}, nil
		}
	}
	v, err := t.expandSource(ctx, a)
	if err != nil {
		return nil, err
	}
	items, err := elements(v)
	return &source{items: items, n: len(items)}, err
}

// rawSource returns the text of a literal or of the result of one unmapped task,
// nil for anything that must be decoded as a whole.
func (t *Task) rawSource(ctx context.Context, a airflow.ExpandArg) (json.RawMessage, func(json.RawMessage) (jinja.Value, error), error) {
	if a.XCom == nil {
		return a.Literal, func(e json.RawMessage) (jinja.Value, error) {
			v, err := serde.FromDocument(e)
			if err != nil {
				return nil, err
			}
			return t.resolve(ctx, v)
		}, nil
	}
	src := t.DAG.Task(a.XCom.TaskID)
	if a.XCom.Type != airflow.XComPlain || src == nil || src.IsMapped || src.NeedsExpansion {
		return nil, nil, nil
	}
	raw, err := t.GetXCom(ctx, worker.XComQuery{DagID: t.DAG.DagID, RunID: t.Run.RunID, TaskID: a.XCom.TaskID, Key: a.XCom.Key, MapIndex: airflow.Unmapped})
	if err != nil {
		return nil, nil, nil //nolint:nilerr // the ordinary path words the error
	}
	return raw, serde.DecodeXCom, nil
}

// scanList finds element i of a JSON list (i < 0: none) and counts the elements.
// With i >= 0 it stops there. ok is false if raw is not a list; raw is valid JSON.
func scanList(raw []byte, i int) (element json.RawMessage, n int, ok bool) {
	p := 0
	space := func() {
		for p < len(raw) && (raw[p] == ' ' || raw[p] == '\n' || raw[p] == '\t' || raw[p] == '\r') {
			p++
		}
	}
	space()
	if p == len(raw) || raw[p] != '[' {
		return nil, 0, false
	}
	p++
	space()
	if p < len(raw) && raw[p] == ']' {
		return nil, 0, true
	}
	start, depth, inString := p, 0, false
	for ; p < len(raw); p++ {
		c := raw[p]
		switch {
		case inString:
			if c == '\\' {
				p++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '[' || c == '{':
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		case c == ',' && depth == 0 || c == ']':
			if n == i {
				return raw[start:p], n, true
			}
			n++
			start = p + 1
			if c == ']' {
				return nil, n, true
			}
		}
	}
	return nil, n, false
}
